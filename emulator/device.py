"""READ FIRST. The life of one device, from its setup to its last answer.

`live` is a generator: it yields what the device says (Send) and what it has achieved (Commit), and is
answered by what arrived. It knows nothing of processes, files or sockets; drivers do. The data's way:

    shard -> backbone + adapter -> setup (introduce -> survey -> clusters -> masks -> statistics)
    -> per round: local steps -> message ~ air ~ receptions -> merge -> commit
    -> at the end: exchange between clusters -> experts -> routed answers

What a method does in its setup, rounds and end is told by its own file: read next
`methods/sparse_orthogonal.py`, then `network/shim.py` for what happens between devices.
Shapes: M devices, L modules, N coordinates, S sequences, E experts.
"""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from emulator.core.errors import EmulatorError
from emulator.core.plugins import check_part
from emulator.core.protocols.backbone import AdaptedModel
from emulator.core.protocols.driver import Life
from emulator.core.protocols.method import AdapterMethod
from emulator.core.protocols.tasks import Learner
from emulator.core.rng import stream
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import BoolArray, DoubleArray, FloatArray, IndexArray
from emulator.core.types.data import Example
from emulator.core.types.message import Fact, Kind, Known, Message, Received, Traffic, ValueType
from emulator.core.types.records import SETUP_ROUND, MetricRecord
from emulator.core.types.result import DeviceResult, Expert
from emulator.core.types.steps import Commit, DeviceState, Inbox, Send, Step
from emulator.core.types.survey import Link, Survey
from emulator.learning.adapters.alignment import alignments
from emulator.learning.adapters.calibration import spectral_entropies
from emulator.learning.adapters.density import printed_counts, spectral_counts, uniform_counts
from emulator.learning.adapters.full_model import FullModel
from emulator.learning.adapters.lora import LoraModel
from emulator.learning.adapters.mask_selection import (
    largest_entries,
    largest_of_all,
    random_entries,
)
from emulator.learning.adapters.projection import common_starts, largest_overlap, layer_blocks
from emulator.learning.probes import Inspection
from emulator.learning.tasks.learner import learner_for
from emulator.methods.messages import planned_message
from emulator.network.flooding import flood
from emulator.network.survey import IntroducedSizes
from emulator.network.topology.clusters import expected_collision_rate
from emulator.network.wire import quantise
from emulator.scenario.sections import Asynchronous
from emulator.scenario.stopping import limit_reached
from emulator.scenario.world import World


def live(world: World, device_id: int, restored: DeviceState | None = None) -> Life:
    """One device's life. Returns what it leaves behind."""
    if restored is not None:
        raise EmulatorError(f"device {device_id}: got a state to resume from, wanted a fresh start")
    own = Device(world, device_id)
    method = world.scenario.method.start(own)
    check_part(method, AdapterMethod, world.scenario.method.kind)

    yield from method.setup()
    own.start_rounds()
    for round_index in range(world.scenario.rounds):
        own.train_round(round_index)
        yield from own.agree_on_the_end(round_index)
        own.inspection.before(round_index)
        yield from method.exchange(round_index)
        own.inspection.after(round_index)
        yield own.commit(round_index)
        if round_index == own.rounds - 1:
            break
    yield from method.finish()

    experts = tuple(method.experts())
    own.answer(experts)
    return own.result(method.own_expert(), experts)


class Device:
    """One device: its clock, its data, its model, and all that a method may ask of the packages.

    This is `core.protocols.method.Own`: it decides nothing and only joins the packages.
    """

    adapted: AdaptedModel

    def __init__(self, world: World, device_id: int) -> None:
        scenario = world.scenario
        self.id = device_id
        self.devices, self.seed = scenario.devices, scenario.seed
        self.task_names = scenario.tasks.names
        self.shard = world.shards[device_id]
        self.rounds = scenario.rounds
        self.total_steps = scenario.rounds * scenario.local.steps
        self.max_power_w = float(world.channel.max_power_w[device_id])
        self.lost_coordinates = scenario.wire.lost_coordinates
        self.now_s, self.compute_energy_j, self.train_cpu_s = 0.0, 0.0, 0.0
        self._sent_bytes, self._transmit_energy_j = 0, 0.0
        self.survey: Survey | None = None
        self._surveyed_s, self._rounds_since_survey = 0.0, 0
        self._world = world
        self._learner: Learner = learner_for(world.backbone)
        self._training = world.local_training(device_id, self._learner)
        self.round_index = SETUP_ROUND
        self._steps_done_early = 0
        self._answering = world.answering(self._learner)
        self.inspection = Inspection(self, self._answering, scenario.evaluation.own_task_every)
        self._clusters: tuple[tuple[int, ...], ...] = ()
        self._records: list[MetricRecord] = []

    @property
    def position_m(self) -> tuple[float, float]:
        """Where it is now, x and y [m]."""
        x_m, y_m = self._world.channel.at(self.now_s).positions_m[self.id]
        return float(x_m), float(y_m)

    # ── its own model ────────────────────────────────────────────────────────────────────────────

    def adapt(self, lora_rank: int, lora_alpha: int, trained: Sequence[str]) -> LoraModel:
        """The backbone with LoRA layers of which the named sides are trained."""
        backbone = self._world.backbone
        return LoraModel(backbone.model, backbone.target_modules, lora_rank, lora_alpha, trained)

    def adapt_all(self, max_parameters: int) -> FullModel:
        """The backbone with all its weights trained. Raises ScenarioError when they are more."""
        return FullModel(self._world.backbone.model, max_parameters)

    def projection(
        self, kind: str, lora_rank: int, num_blocks: int, block: int
    ) -> dict[str, FloatArray]:
        """The static projections A of one block, by layer name."""
        every_block = layer_blocks(self._inputs_of(), kind, self.seed, lora_rank, num_blocks)
        return {f"{name}.lora_A": blocks[block] for name, blocks in every_block}

    def projection_overlap(self, kind: str, lora_rank: int, num_blocks: int) -> float:
        """The largest ||A_i A_j^T||_2 / GAMMA^2 over all blocks and modules; 0 when orthogonal."""
        every_block = layer_blocks(self._inputs_of(), kind, self.seed, lora_rank, num_blocks)
        return max(largest_overlap(blocks) for _, blocks in every_block)

    def common_start(self, lora_rank: int) -> dict[str, FloatArray]:
        """One seeded start of A that all devices share, by layer name."""
        starts = common_starts(self._inputs_of(), self.seed, lora_rank)
        return {f"{name}.lora_A": start for name, start in starts}

    def _inputs_of(self) -> dict[str, int]:
        """Inputs k of each adapted module."""
        adapted = self.adapted
        return {name: adapted.shape_of(f"{name}.lora_A")[1] for name in adapted.module_names}

    def kept_counts(
        self, allocation: str, budget: int, temperature: float, ridge: float
    ) -> IndexArray:
        """Entries of B to keep in each module under a budget, from this device's own data [L]."""
        names, backbone = self.adapted.module_names, self._world.backbone
        sizes_L = np.array(self.adapted.layout.sizes, dtype=np.int64)
        if allocation == "uniform":
            return uniform_counts(sizes_L, budget)
        texts = [self._learner.router_text(example) for example in self._own_sample()]
        entropies_L = spectral_entropies(backbone, names, texts, ridge)
        self.measure_modules("spectral_entropy", entropies_L)
        if allocation == "printed":
            return printed_counts(entropies_L, sizes_L, budget)
        return spectral_counts(entropies_L, sizes_L, budget, temperature)

    def parameter_budget(self, neighbours: int) -> int:
        """How many values the device can afford to train and to send to so many neighbours."""
        planned = partial(planned_message, self)
        return self._world.parameter_budget(self.id, self.adapted.layout.size, neighbours, planned)

    def largest_entries(self, counts_L: IndexArray, free_N: BoolArray) -> Mask:
        """The mask of the largest trained entries in each module, of those that are free."""
        return largest_entries(self.adapted.vector(), self.adapted.layout, counts_L, free_N)

    def random_entries(self, counts_L: IndexArray) -> Mask:
        """A mask of so many random entries in each module."""
        draws = stream(self.seed, "random_mask", self.id)
        return random_entries(self.adapted.layout, counts_L, draws)

    def largest_of_all(self, count: int) -> Mask:
        """The mask of the largest trained entries, wherever they are."""
        return largest_of_all(self.adapted.vector(), count)

    def train(self, steps: int) -> float:
        """Local steps before the rounds (a warm-up); they are taken off the rounds to come."""
        self._steps_done_early += steps
        loss = self._train(steps)
        self.measure("warmup_loss", loss, SETUP_ROUND, self.shard.task)
        return loss

    def start_rounds(self) -> None:
        """Remember where the rounds start from."""
        self.inspection.start()
        if self._world.scenario.wire.error_feedback:
            self._held_back_N = np.zeros(self.adapted.layout.size, dtype=np.float32)

    def train_round(self, round_index: int) -> None:
        """The local steps of a round, less those already done."""
        self.round_index = round_index
        self._rounds_since_survey += 1
        steps = self._steps_of_a_round()
        self._steps_done_early -= self._world.scenario.local.steps - steps
        if steps:
            self.measure("train_loss", self._train(steps), round_index, self.shard.task)

    def _steps_of_a_round(self) -> int:
        """The steps of the next round to be trained."""
        return max(0, self._world.scenario.local.steps - self._steps_done_early)

    def _train(self, steps: int) -> float:
        """Local steps; emulated time and energy pass as declared. Returns the mean loss."""
        trained = self._training.run(self.adapted, steps)
        self.now_s += trained.duration_s
        self.compute_energy_j += trained.energy_j
        self.train_cpu_s += trained.cpu_s
        return trained.loss

    def _own_sample(self) -> list[Example]:
        """A keyed sample of the own training examples."""
        train, count = self.shard.train, self._world.scenario.local.calibration_samples
        order = stream(self.seed, "calibration", self.id).permutation(len(train))
        return [train[i] for i in order[:count]]

    # ── the others ───────────────────────────────────────────────────────────────────────────────

    def introduce(
        self, body: bytes, traffic: Traffic = Traffic.SETUP
    ) -> Generator[Step, Inbox, dict[int, bytes]]:
        """Flood a few bytes through the network; returns everybody's by device id.

        Clocks differ, its graph must not: rounds since the last survey count as long as planned.
        """
        frame_s = self._world.scenario.local.planned_s + self._world.channel.deadline_s
        time_s = self._surveyed_s + self._rounds_since_survey * frame_s
        return (yield from flood(self, self._world.hop_counts(time_s), body, traffic))

    def agree_on_the_end(self, round_index: int) -> Generator[Step, Inbox, None]:
        """With `stop`, tell everybody what was spent; at a limit this round becomes the last."""
        stop = self._world.scenario.stop
        energy_j = self._transmit_energy_j + self.compute_energy_j
        if stop and (yield from limit_reached(self, stop, self._sent_bytes, energy_j)):
            self.rounds = round_index + 1

    def survey_of(
        self,
        samples: Sequence[int],
        blocks: Sequence[int],
        densities_ML: DoubleArray,
        planned: Sequence[Message],
        time_s: float = 0.0,
    ) -> Survey:
        """What the introductions tell, with gains and the powers that everybody's message requires."""
        self._surveyed_s, self._rounds_since_survey = time_s, 0
        sizes = IntroducedSizes(tuple(samples), tuple(blocks), tuple(self.adapted.module_sizes))
        return self._world.survey(time_s, planned, densities_ML, sizes)

    def links(self, round_index: int) -> tuple[Link, ...]:
        """All links of the round under the scenario's topology; none among those never introduced."""
        return () if self.survey is None else self._world.links(round_index, self.survey)

    def clusters(self, round_index: int) -> tuple[tuple[int, ...], ...]:
        """The clusters of the survey, each sorted; under any other topology one of all devices."""
        graph, survey = self._world.scenario.graph, self.survey
        if survey is None:
            raise EmulatorError(f"device {self.id}: got no survey, wanted one before clusters")
        clustered = getattr(graph, "clusters", lambda _: (tuple(range(self.devices)),))
        self._clusters = self._world.once(("clusters", survey), lambda: clustered(survey))
        own = next(members for members in self._clusters if self.id in members)
        self.measure("cluster", self._clusters.index(own), round_index)
        self.measure("collision_rate_expected", expected_collision_rate(survey, own), round_index)
        return self._clusters

    def exchange(
        self, messages: Sequence[Message], wait_for: Sequence[int], known: Sequence[Fact] = ()
    ) -> Generator[Step, Inbox, tuple[Received, ...]]:
        """Send and wait; the clock moves on to the last arrival.

        In asynchronous rounds nobody waits: there may be several of a device, or none.
        """
        spoken_of = Known.of(*known, self.adapted.layout)
        send = Send(self.now_s, tuple(messages), tuple(wait_for), spoken_of)
        schedule = self._world.scenario.schedule
        alone = self.round_index != SETUP_ROUND and isinstance(schedule, Asynchronous)
        if alone:
            send = replace(send, wait_for=(), listen_to=send.wait_for, next_s=self._next_s())
        inbox = yield send
        self.now_s = max([self.now_s, *(told.arrival_s for told in inbox.received)])
        self._sent_bytes, self._transmit_energy_j = inbox.sent_bytes, inbox.transmit_energy_j
        return inbox.received

    def _next_s(self) -> float:
        """When the next round's steps will be done; inf after the last round [s]."""
        pause_s = self._training.next_duration_s(self._steps_of_a_round())
        return math.inf if self.round_index == self.rounds - 1 else self.now_s + pause_s

    def value_type(self, kind: Kind = Kind.VALUES) -> ValueType:
        """How adapter values, or routing statistics, travel."""
        return self._world.scenario.wire.type_of(kind)

    def to_send(self, vector_N: FloatArray) -> FloatArray:
        """The trained vector as it is told this round.

        With wire.error_feedback: v + e, where e gathers what rounding has held back so far,
        e <- (v + e) - Q(v + e); otherwise v. Source: arXiv 1901.09847.
        """
        if not self._world.scenario.wire.error_feedback:
            return vector_N
        told_N = vector_N + self._held_back_N
        self._held_back_N = told_N - self.as_received(told_N)
        return told_N

    def as_received(self, values: FloatArray, kind: Kind = Kind.VALUES) -> FloatArray:
        """Adapter values [N], or statistics, as every receiver will see them."""
        layout, mask = self.adapted.layout, Mask.full(self.adapted.layout.size)
        rounded = quantise(values, self.value_type(kind), layout, mask)
        return np.asarray(rounded, dtype=np.float32)

    def try_diluted(self, merged: Callable[[FloatArray], FloatArray], round_index: int) -> None:
        """The control of this exchange, where it is looked at: the merge if others had learnt nothing."""
        self.inspection.diluted(merged, round_index)

    # ── answering ────────────────────────────────────────────────────────────────────────────────

    def router_statistics(self) -> tuple[AdapterLayout, FloatArray]:
        """Additive statistics of own training prompts; empty where the router needs none."""
        return self._answering.statistics(self._own_sample())

    def use_router_statistics(self, statistics: FloatArray) -> None:
        """Fit the router to the summed statistics of all devices."""
        self._answering.fit(statistics)

    def answer(self, experts: Sequence[Expert]) -> None:
        """Answer the test examples of every task."""
        measured = [*self._answering.together(experts)]
        if self._world.scenario.method.routes:
            measured += self._answering.controls(experts, self.shard.task)
            measured += alignments(experts) if self.id == 0 else ()
        for metric, task, value in measured:
            self.measure(metric, value, self.rounds - 1, task)

    # ── the records ──────────────────────────────────────────────────────────────────────────────

    def measure(self, metric: str, value: float, round_index: int, task: str = "") -> None:
        """Put a value into the records."""
        self._records.append(MetricRecord(self.id, round_index, task, metric, value))

    def measure_modules(self, metric: str, values_L: DoubleArray) -> None:
        """One value of the setup for each module."""
        for name, value in zip(self.adapted.module_names, values_L, strict=True):
            self.measure(f"{metric}/{name}", float(value), SETUP_ROUND)

    def commit(self, round_index: int) -> Commit:
        """What this round came to."""
        self.round_index = SETUP_ROUND
        self.measure("emulated_s", self.now_s, round_index)
        records, self._records = tuple(self._records), []
        tensors = {"adapter": self.adapted.vector()}
        return Commit(DeviceState(round_index, self.now_s, tensors), records)

    def result(self, own_expert: Expert, experts: tuple[Expert, ...]) -> DeviceResult:
        """What the device leaves behind."""
        self.measure("trained_parameters", self.adapted.mask.count, SETUP_ROUND)
        return DeviceResult(
            device=self.id,
            own_expert=own_expert,
            experts=experts,
            router=self._answering.router(),
            records=tuple(self._records),
            links=tuple(x for x in self.links(self.rounds - 1) if x.receiver == self.id),
            clusters=self._clusters,
            emulated_s=self.now_s,
            compute_energy_j=self.compute_energy_j,
            train_cpu_s=self.train_cpu_s,
            rounds=self.rounds,
        )
