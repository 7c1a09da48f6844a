"""The network as one device uses it: positions, links, clusters, and every exchange of messages.

Shapes: M devices, L modules, N coordinates of the trained vector.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import replace

from emulator.core.errors import EmulatorError
from emulator.core.protocols.context import DeviceContext
from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import DoubleArray, FloatArray
from emulator.core.types.exchange import Shared
from emulator.core.types.message import Fact, Known, Message, Received, Traffic
from emulator.core.types.records import SETUP_ROUND
from emulator.core.types.steps import Inbox, Send, State, Step
from emulator.core.types.survey import Link, Survey
from emulator.learning.device_model import DeviceModel
from emulator.methods.loss_policies import loss_policy_of
from emulator.methods.messages import values_message
from emulator.network.flooding import flood
from emulator.network.survey import IntroducedSizes
from emulator.network.topology.clusters import expected_collision_rate
from emulator.scenario.sections import Asynchronous
from emulator.scenario.world import World


class DeviceNetwork:
    """`core.protocols.context.NetworkContext`. own_clusters: the clusters formed last, for the result."""

    def __init__(self, world: World, ctx: DeviceContext, model: DeviceModel) -> None:
        self.own_clusters: tuple[tuple[int, ...], ...] = ()
        self._world = world
        self._ctx = ctx
        self._model = model
        self._policy = loss_policy_of(world.scenario.wire.lost_coordinates)
        self._survey: Survey | None = None
        self._introduced: State = None
        self._surveyed_s = 0.0
        self._rounds_before_survey = 0

    # ── positions, links and clusters ────────────────────────────────────────────────────────────

    @property
    def position_m(self) -> tuple[float, float]:
        """The present position of this device: x and y [m]."""
        now = self._world.channel.at(self._ctx.progress.now_s)
        x_m, y_m = now.positions_m[self._ctx.info.id]
        return float(x_m), float(y_m)

    def update_survey(
        self,
        samples: Sequence[int],
        groups: Sequence[int],
        densities_ML: DoubleArray,
        planned: Sequence[Message],
        time_s: float = 0.0,
    ) -> None:
        """Store the data of the introductions, with path gains and powers at a common time [s]."""
        self._surveyed_s = time_s
        self._rounds_before_survey = self._ctx.progress.rounds_begun
        self._introduced = {
            "samples": tuple(samples),
            "groups": tuple(groups),
            "densities": densities_ML,
            "bytes": self._world.planned_bytes(planned),
        }
        self._survey = self._make_survey()

    def _make_survey(self) -> Survey:
        """Make the survey from the stored introductions, at their time."""
        known = self._introduced
        module_sizes = tuple(self._model.adapted.module_sizes)
        sizes = IntroducedSizes(known["samples"], known["groups"], module_sizes)
        return self._world.survey(self._surveyed_s, known["bytes"], known["densities"], sizes)

    def links(self, round_index: int) -> tuple[Link, ...]:
        """All links of a round under the scenario's topology; empty before a survey."""
        return () if self._survey is None else self._world.links(round_index, self._survey)

    def form_clusters(self, round_index: int) -> tuple[tuple[int, ...], ...]:
        """Form the clusters of the survey, each sorted, and record them under a round.

        Raises EmulatorError before a survey.
        """
        info, survey = self._ctx.info, self._survey
        if survey is None:
            raise EmulatorError(f"device {info.id}: got no survey, wanted one before clusters")
        everyone = tuple(range(info.devices))
        clustered = getattr(self._world.scenario.graph, "clusters", lambda _: (everyone,))
        clusters: tuple[tuple[int, ...], ...] = self._world.compute_once(
            ("clusters", survey), lambda: clustered(survey)
        )
        own = next(members for members in clusters if info.id in members)
        log = self._ctx.log
        log.metric("cluster", clusters.index(own), round_index)
        log.metric("collision_rate_expected", expected_collision_rate(survey, own), round_index)
        self.own_clusters = clusters
        return clusters

    def state(self) -> State:
        """Survey, clusters, and the state of the loss policy."""
        return {
            "introduced": self._introduced,
            "surveyed_s": self._surveyed_s,
            "rounds_before_survey": self._rounds_before_survey,
            "clusters": self.own_clusters,
            "last_received": self._policy.state(),
        }

    def restore(self, state: State) -> None:
        """Restore a state; the method has adapted the backbone already."""
        self._introduced = state["introduced"]
        self._surveyed_s = state["surveyed_s"]
        self._rounds_before_survey = state["rounds_before_survey"]
        self.own_clusters = state["clusters"]
        self._policy.restore(state["last_received"])
        if self._introduced is not None:
            self._survey = self._make_survey()

    # ── exchanges ────────────────────────────────────────────────────────────────────────────────

    def flood(
        self, body: bytes, traffic: Traffic = Traffic.SETUP
    ) -> Generator[Step, Inbox, dict[int, bytes]]:
        """Send a few bytes to all devices, hop by hop. Returns the bytes of every device by its id.

        All devices compute the hops for the same time, although their clocks differ: the time of the last
        survey plus the planned duration of the rounds since then.
        """
        frame_s = self._world.scenario.local.planned_s + self._world.channel.deadline_s
        rounds = self._ctx.progress.rounds_begun - self._rounds_before_survey
        time_s = self._surveyed_s + rounds * frame_s
        return (yield from flood(self._ctx, self._world.count_hops(time_s), body, traffic))

    def exchange(
        self, messages: Sequence[Message], wait_for: Sequence[int], known: Sequence[Fact] = ()
    ) -> Generator[Step, Inbox, tuple[Received, ...]]:
        """Send messages and wait for messages of other devices; the clock moves to the last arrival."""
        progress = self._ctx.progress
        known_here = Known.of(*known, self._model.adapted.layout)
        send = Send(progress.now_s, tuple(messages), tuple(wait_for), known_here)
        asynchronous = isinstance(self._world.scenario.schedule, Asynchronous)
        if asynchronous and progress.round_index != SETUP_ROUND:
            send = replace(send, wait_for=(), listen_to=send.wait_for, next_s=self._next_send_s())
        inbox = yield send
        progress.now_s = max([progress.now_s, *(each.arrival_s for each in inbox.received)])
        progress.sent_bytes = inbox.sent_bytes
        progress.transmit_energy_j = inbox.transmit_energy_j
        return inbox.received

    def share(
        self,
        mask: Mask,
        vector_N: FloatArray,
        receivers: Sequence[int],
        senders: Sequence[int],
        known: Sequence[Fact] = (),
    ) -> Generator[Step, Inbox, Shared]:
        """Exchange one vector in a round: send the entries of a mask, receive those of the senders.

        With `wire.error_feedback` v + e is sent, and e <- (v + e) - Q(v + e) with rounding Q; e starts at 0
        and holds the rounding error that was not sent yet. Otherwise v is sent. Source: arXiv 1901.09847.
        """
        feedback = self._world.scenario.wire.error_feedback and bool(receivers)
        sent_N = vector_N + self._model.held_back_N if feedback else vector_N
        own_N = self._ctx.wire.as_received(sent_N)
        if feedback:
            self._model.held_back_N = sent_N - own_N
        message = values_message(self._ctx, mask, sent_N[mask.indices], tuple(receivers))
        received = yield from self.exchange([message] if receivers else [], senders, known)
        return Shared(own_N, self._policy.newest(received))

    def _next_send_s(self) -> float:
        """Time at which the steps of the next round end [s]; inf after the last round."""
        progress = self._ctx.progress
        if progress.round_index == progress.rounds - 1:
            return math.inf
        return progress.now_s + self._model.next_round_s()
