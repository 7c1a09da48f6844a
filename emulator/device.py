"""READ FIRST. The life of one device, from its setup to its last answer.

`live` is a generator: it yields what the device sends (Send) and what it has finished (Commit), and is
answered by what arrived. It knows nothing of processes, files or sockets; drivers do. The data's way:

    shard -> backbone + adapter -> setup (introduce -> survey -> clusters -> masks -> statistics)
    -> per round: local steps -> message ~ channel ~ received messages -> merge -> commit
    -> at the end: exchange between clusters -> experts -> routed answers

What a method does in setup, rounds and end stands in its own file. Read next
`methods/sparse_orthogonal.py`, then `network/shim.py` for what happens between devices.
"""

import math
import struct
from collections.abc import Generator, Sequence

from emulator.core.metric_log import MetricLog
from emulator.core.plugins import check_part
from emulator.core.protocols.driver import Life
from emulator.core.protocols.method import AdapterMethod, Stateful
from emulator.core.state_file import refuse_unfit
from emulator.core.types.device import DeviceInfo, DeviceProgress
from emulator.core.types.message import Traffic
from emulator.core.types.records import SETUP_ROUND
from emulator.core.types.result import DeviceResult, Expert
from emulator.core.types.steps import Commit, Inbox, State, Step
from emulator.learning.adapters.alignment import alignments
from emulator.learning.device_model import DeviceModel
from emulator.learning.device_sparsity import DeviceSparsity
from emulator.learning.inspection import Inspection
from emulator.learning.tasks.learner import learner_for
from emulator.scenario.device_network import DeviceNetwork
from emulator.scenario.device_wire import DeviceWire
from emulator.scenario.world import World

SPENT = struct.Struct("<Qdd")
"""Bytes sent, emulated clock [s] and energy [J] of a device, which the limits of `stop` compare."""


def live(world: World, device_id: int, restored: State = None) -> Life:
    """One device's life. Returns its experts and measurements.

    restored: what the `capture` of an earlier Commit gave; the life then goes on after that round.
    """
    device = Device(world, device_id)
    method = world.scenario.method.start(device)
    check_part(method, AdapterMethod, world.scenario.method.kind)

    if restored is None:
        yield from method.setup()
        device.model.mark_start()
    else:
        device.restore(method, restored)
    while device.progress.rounds_begun < device.progress.rounds:
        round_index = device.progress.begin_round()
        device.model.train_round()
        yield from device.agree_on_the_end()
        device.inspection.before_exchange(device.model.adapted, round_index)
        yield from method.exchange(round_index)
        device.inspection.after_exchange(device.model.adapted)
        yield device.commit(method)
    yield from method.finish()

    experts = tuple(method.experts())
    device.answer(experts)
    return device.result(method.own_expert(), experts)


class Device:
    """One device: `core.protocols.context.DeviceContext`, made of its parts, and its own bookkeeping."""

    model: DeviceModel

    def __init__(self, world: World, device_id: int) -> None:
        scenario, backbone = world.scenario, world.backbone
        self._world = world
        self.info = DeviceInfo(
            id=device_id,
            devices=scenario.devices,
            seed=scenario.seed,
            task_names=scenario.tasks.names,
            shard=world.shards[device_id],
            round_steps=scenario.local.steps,
            max_power_w=float(world.channel.max_power_w[device_id]),
        )
        self.progress = DeviceProgress(scenario.rounds)
        self.log = MetricLog(device_id, lambda: self.model.adapted.module_names)
        self.wire = DeviceWire(world, self)

        learner, sample = learner_for(backbone), world.own_sample(device_id)
        self.router = world.answering(learner, sample)
        self.inspection = Inspection(
            task=self.info.shard.task,
            answering=self.router,
            every=scenario.evaluation.own_task_every,
            as_received=self.wire.as_received,
            log=self.log,
        )
        training = world.local_training(device_id, learner)
        self.model = DeviceModel(backbone, training, self.inspection, self)
        self.sparsity = DeviceSparsity(backbone, learner, sample, self)
        self.network = DeviceNetwork(world, self, self.model)
        self._stateful: dict[str, Stateful] = {
            "progress": self.progress,
            "router": self.router,
            "model": self.model,
            "network": self.network,
        }

    def agree_on_the_end(self) -> Generator[Step, Inbox, None]:
        """With `stop`, add up what all devices spent; at a limit the present round becomes the last."""
        stop, progress = self._world.scenario.stop, self.progress
        if not stop:
            return
        energy_j = progress.transmit_energy_j + progress.compute_energy_j
        body = SPENT.pack(progress.sent_bytes, progress.now_s, energy_j)
        bodies = yield from self.network.flood(body, Traffic.CONTROL)
        spent = [SPENT.unpack(bodies[device]) for device in range(self.info.devices)]
        bytes_M, clocks_M, energies_M = zip(*spent, strict=True)
        if stop.reached(sum(bytes_M), max(clocks_M), math.fsum(energies_M)):
            progress.stop()

    def commit(self, method: AdapterMethod) -> Commit:
        """Finish the round: what was measured in it, and how to capture the state after it."""
        progress, round_index = self.progress, self.progress.round_index
        progress.round_index = SETUP_ROUND
        self.log.metric("emulated_s", progress.now_s, round_index)
        parts = {**self._stateful, "method": method}
        return Commit(
            round_index,
            progress.now_s,
            last=round_index == progress.rounds - 1,
            records=self.log.take(),
            capture=(lambda: {name: part.state() for name, part in parts.items()})
            if hasattr(method, "state")
            else None,
        )

    def restore(self, method: AdapterMethod, captured: State) -> None:
        """Go on from what a commit's `capture` gave; what was measured before it is recorded already."""
        self.log.take()
        with refuse_unfit(self.info.id):
            for name, part in {**self._stateful, "method": method}.items():
                part.restore(captured[name])

    def answer(self, experts: Sequence[Expert]) -> None:
        """Answer the test examples of every task and record how well."""
        measured = [*self.router.measure_answers(experts)]
        if self._world.scenario.method.routes:
            measured += self.router.measure_controls(experts, self.info.shard.task)
            measured += alignments(experts) if self.info.id == 0 else ()
        for metric, task, value in measured:
            self.log.metric(metric, value, self.progress.rounds - 1, task)

    def result(self, own_expert: Expert, experts: tuple[Expert, ...]) -> DeviceResult:
        """What the run keeps of the device."""
        self.log.metric("trained_parameters", self.model.adapted.mask.count, SETUP_ROUND)
        links = self.network.links(self.progress.rounds - 1)
        return DeviceResult(
            device=self.info.id,
            own_expert=own_expert,
            experts=experts,
            router=self.router.fitted_router,
            records=self.log.take(),
            links=tuple(link for link in links if link.receiver == self.info.id),
            clusters=self.network.own_clusters,
            emulated_s=self.progress.now_s,
            compute_energy_j=self.progress.compute_energy_j,
            train_cpu_s=self.progress.train_cpu_s,
            rounds=self.progress.rounds,
        )
