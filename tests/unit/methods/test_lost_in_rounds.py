"""Policies for lost coordinates: the real rounds of gossip against a slow reading of each policy, and
that against stored values of pure averaging, no training.

Shapes: M devices, N coordinates, P packets of a message, T rounds; S repetitions side by side in N.
"""

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_device import ToyDevice

from emulator.core.rng import stream
from emulator.core.types.adapter import AdapterLayout, LostCoordinates, Mask
from emulator.core.types.arrays import BoolArray, DoubleArray, FloatArray
from emulator.core.types.message import (
    Coordinate,
    Kind,
    Message,
    Received,
    Traffic,
    ValueType,
)
from emulator.core.types.records import LinkRecord
from emulator.core.types.steps import Inbox, Send, Step
from emulator.core.types.transmission import Burst
from emulator.core.units import noise_w
from emulator.methods.gossip import Gossip
from emulator.network.channel.access import OfdmaAccess
from emulator.network.channel.model import Wireless
from emulator.network.shim import Shim
from emulator.network.topology.mixing import metropolis_links, mixing_matrix
from emulator.network.wire import WireFormat, quantise
from emulator.runtime.drivers import one_process

DEVICES, SIZE, PACKETS, ROUNDS = 8, 4000, 40, 60
"""The reference's setup; how many rounds it took is not told. 60 fit the shrinking of zero_fill."""

LINKS = metropolis_links(
    [(i, (i + step) % DEVICES) for i in range(DEVICES) for step in (1, 2)], DEVICES
)
WEIGHTS_MM = mixing_matrix(LINKS, DEVICES)
POLICIES: tuple[LostCoordinates, ...] = (
    "keep_own", "renormalise", "last_received", "drop_message", "retransmit",
)  # fmt: skip
LOSSES = {
    "p=0.1": [0.1] * DEVICES,
    "p=0.3": [0.3] * DEVICES,
    "two bad senders 0.7, others 0.05": [0.7] * 2 + [0.05] * (DEVICES - 2),
}
"""By sender."""

NAMES = {
    "keep_own": "local_fill",
    "renormalise": "renorm",
    "last_received": "stale_fill",
    "drop_message": "drop_msg",
}


def start(seed: int, repetitions: int = 1) -> DoubleArray:
    return stream(seed, "start").standard_normal((DEVICES, repetitions * SIZE))


def arrivals(losses: Sequence[float], seed: int, rounds: int, repetitions: int = 1) -> BoolArray:
    """[T, M, M, S P]: which packets the first device gets of the second, each direction by itself."""
    shape = (rounds, DEVICES, DEVICES, repetitions * PACKETS)
    return stream(seed, "arrivals").random(shape) >= np.array(losses)[None, None, :, None]


def jointly(arrived_TMMP: BoolArray) -> BoolArray:
    """The same losses at both ends of a link."""
    upper = np.triu(np.ones((DEVICES, DEVICES), dtype=np.bool_))[..., None]
    return np.where(upper, arrived_TMMP, arrived_TMMP.swapaxes(1, 2))


# ── a slow reading of the policies ───────────────────────────────────────────────────────────────


def slow_rounds(
    policy: str, vectors_MN: DoubleArray, arrived_TMMP: BoolArray, losses: Sequence[float]
) -> Generator[DoubleArray, None, None]:
    """The devices' vectors after each round, in float64; policies by the reference's names."""
    last: dict[tuple[int, int], DoubleArray] = {}
    for arrived_MMP in arrived_TMMP:
        if policy == "drop_msg":
            messages = arrived_MMP.reshape(DEVICES, DEVICES, -1, PACKETS).all(axis=-1)
            arrived_MMP = np.repeat(messages, PACKETS, axis=-1)
        mixed = []
        for i in range(DEVICES):
            own_N, own_weight = vectors_MN[i], WEIGHTS_MM[i, i]
            total_N, weight_N = own_weight * own_N, np.full(own_N.size, own_weight)
            for j in np.flatnonzero(WEIGHTS_MM[i]).tolist():
                if i == j:
                    continue
                weight, other_N = WEIGHTS_MM[i, j], vectors_MN[j]
                here_N = np.repeat(arrived_MMP[i, j], SIZE // PACKETS)
                if policy == "renorm":
                    total_N = total_N + weight * np.where(here_N, other_N, 0.0)
                    weight_N = weight_N + weight * here_N
                    continue
                if policy == "stale_fill":
                    last[i, j] = np.where(here_N, other_N, last.get((i, j), np.nan))
                    other_N = np.where(np.isnan(last[i, j]), own_N, last[i, j])
                elif policy == "zero_fill":
                    other_N = np.where(here_N, other_N, 0.0)
                elif policy == "ipw_diff":
                    scale = 1.0 / (1.0 - losses[j])
                    other_N = own_N + np.where(here_N, scale * (other_N - own_N), 0.0)
                else:
                    other_N = np.where(here_N, other_N, own_N)
                total_N, weight_N = total_N + weight * other_N, weight_N + weight
            mixed.append(total_N / weight_N)
        vectors_MN = np.stack(mixed)
        yield vectors_MN


def drift(before_MN: NDArray[Any], after_MN: NDArray[Any]) -> DoubleArray:
    """||mean_T - mean_0|| / ||mean_0|| of each repetition."""
    means = [v.astype(np.float64).mean(axis=0).reshape(-1, SIZE) for v in (before_MN, after_MN)]
    moved: DoubleArray = np.linalg.norm(means[1] - means[0], axis=1)
    return moved / np.linalg.norm(means[0], axis=1)


def spread(vectors_MN: DoubleArray) -> DoubleArray:
    """Squared distance from the mean, of each repetition."""
    squared_N = ((vectors_MN - vectors_MN.mean(axis=0)) ** 2).sum(axis=0)
    total: DoubleArray = squared_N.reshape(-1, SIZE).sum(axis=1)
    return total


@pytest.mark.parametrize("losses", LOSSES)
def test_the_mean_drifts_as_far_as_in_the_reference(
    losses: str, references: Callable[[str], Any]
) -> None:
    """Every row is one draw of what is drawn here many times; 4 standard deviations: p = 6e-5."""
    repetitions = 12
    stored = references("lost_coordinate_policies")["drift"]["rows"]
    rows = {row["policy"]: row for row in stored if row["loss"] == losses}
    assert set(NAMES.values()) <= rows.keys()
    begin = start(1, repetitions)
    arrived = arrivals(LOSSES[losses], 1, ROUNDS, repetitions)
    for policy, row in rows.items():
        rounds = ROUNDS if policy in ("drop_msg", "zero_fill") else 25  # others agree by then
        steps = list(slow_rounds(policy, begin, arrived[:rounds], LOSSES[losses]))
        drifts = drift(begin, steps[-1])
        allowed = 4 * drifts.std(ddof=1) * (1 + 1 / repetitions) ** 0.5 + 1e-4
        wanted = row["relative_drift_of_network_mean"]
        assert drifts.mean() == pytest.approx(wanted, abs=allowed), policy
        apart = np.array([spread(step) for step in steps]) / spread(begin)
        agreed_after = 1 + np.argmax(apart < 1e-3, axis=0)
        if (stored := row["rounds_to_consensus_1e-3"]) is None:
            assert (apart[-1] > 1e-3).any()
        else:
            assert np.median(agreed_after) == pytest.approx(stored, abs=1)


# ── the real rounds ──────────────────────────────────────────────────────────────────────────────


NUMBERS = {ValueType.FLOAT32: "float32", ValueType.BFLOAT16: "bfloat16"}


def toy(device: int, vector_N: FloatArray, policy: LostCoordinates, number: ValueType) -> ToyDevice:
    layout = AdapterLayout(("B",), (vector_N.shape,))
    wire = WireFormat(value_type=NUMBERS[number], lost_coordinates=policy)  # type: ignore[arg-type]
    return ToyDevice(device, layout, wire, vector_N, LINKS)


class Packets:
    """An air of which the test says what arrives; of what is reliable, everything does."""

    def __init__(
        self, device: int, arrived_TMMP: BoolArray, mail: dict[tuple[int, int], Message]
    ) -> None:
        self.device, self.arrived_TMMP, self.mail = device, arrived_TMMP, mail

    def emit(
        self, send: Send, exchange_index: int
    ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
        (message,) = send.messages
        self.mail[exchange_index, self.device] = message
        bursts = (Burst(self.device, r, exchange_index, 0.0, b"") for r in message.receivers)
        return tuple(bursts), ()

    def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
        return Inbox(tuple(self._received(burst) for burst in bursts), 0.0)

    def _received(self, burst: Burst) -> Received:
        message = self.mail[burst.exchange_index, burst.sender]
        arrived_P = self.arrived_TMMP[burst.exchange_index, self.device, burst.sender]
        here_N = np.repeat(arrived_P, message.mask.size // arrived_P.size) | message.reliable
        values_N = quantise(message.values, message.value_type, message.layout, message.mask)
        return told(burst.sender, np.where(here_N, values_N, 0).astype(np.float32), here_N)


def told(sender: int, values_N: FloatArray, here_N: BoolArray) -> Received:
    status_N = np.where(here_N, Coordinate.RECEIVED, Coordinate.LOST).astype(np.uint8)
    return Received(
        Kind.VALUES, Traffic.IN_CLUSTER, sender, sender, 0, 0.0, b"", values_N, status_N
    )


def life(device: ToyDevice, rounds: int) -> Generator[Step, Inbox, FloatArray]:
    gossip = Gossip(device, Mask.full(device.model.adapted.layout.size))
    for round_index in range(rounds):
        yield from gossip.exchange(round_index)
    return device.model.vector()


def rounds_of(
    policy: LostCoordinates,
    vectors_MN: NDArray[Any],
    arrived_TMMP: BoolArray,
    number: ValueType = ValueType.FLOAT32,
) -> FloatArray:
    """All devices' vectors after so many real rounds."""
    mail: dict[tuple[int, int], Message] = {}
    toys = [toy(i, vectors_MN[i].astype(np.float32), policy, number) for i in range(DEVICES)]
    outcomes = one_process.run_lives(
        {i: life(device, len(arrived_TMMP)) for i, device in enumerate(toys)},  # type: ignore[misc]
        {i: Packets(i, arrived_TMMP, mail) for i in range(DEVICES)},
        lambda *_: None,
    )
    return np.stack([outcomes[i].result for i in range(DEVICES)])  # type: ignore[list-item]


@pytest.mark.parametrize("policy", NAMES)
@pytest.mark.parametrize("loss", [0.02, 0.3])
def test_real_rounds_are_those_of_the_slow_reading(policy: LostCoordinates, loss: float) -> None:
    begin, losses = start(2), [loss] * DEVICES
    arrived = arrivals(losses, 2, 15)
    *_, wanted = slow_rounds(NAMES[policy], begin, arrived, losses)
    np.testing.assert_allclose(rounds_of(policy, begin, arrived), wanted, atol=3e-6)


def test_shared_losses_keep_the_mean_in_the_slow_reading_to_rounding(
    references: Callable[[str], Any],
) -> None:
    stored = references("lost_coordinate_policies")["drift"]["rows"]
    rows = [row for row in stored if row["loss"].startswith("p=0.3 symmetric")]
    begin, losses = start(3), [0.3] * DEVICES
    arrived = jointly(arrivals(losses, 3, ROUNDS))
    *_, end = slow_rounds("local_fill", begin, arrived, losses)
    assert rows[0]["relative_drift_of_network_mean"] < 1e-12
    assert drift(begin, end)[0] < 1e-12


@pytest.mark.parametrize("number", [ValueType.FLOAT32, ValueType.BFLOAT16])
def test_shared_losses_keep_the_mean_and_others_do_not(number: ValueType) -> None:
    begin = start(4).astype(np.float32)
    independent = arrivals([0.3] * DEVICES, 4, 20)
    after = {
        policy: [rounds_of(policy, begin, a, number) for a in (jointly(independent), independent)]
        for policy in ("keep_own", "renormalise")
    }
    assert drift(begin, after["keep_own"][0])[0] < 1e-6
    assert drift(begin, after["keep_own"][1])[0] > 0.1
    assert drift(begin, after["renormalise"][0])[0] > 0.01
    rare = arrivals([0.02] * DEVICES, 4, 20)
    dropped = rounds_of("drop_message", begin, jointly(rare), number)
    assert drift(begin, dropped)[0] < 1e-6


BAND = OfdmaAccess(bandwidth_hz=1e6)
SNR_DB = 10.0 * math.log10(0.1 / noise_w(BAND.bandwidth_hz, 0.0))
"""Of 0.1 W over the noise of the band, both split among a device's neighbours, without path loss."""


@pytest.mark.parametrize("symmetry", ["joint", "independent"])
@pytest.mark.parametrize(
    "losses",
    [
        {"kind": "bernoulli", "probability": 0.3},
        {"kind": "outage", "threshold_db": SNR_DB + 10.0 * math.log10(-math.log(0.7))},
    ],
    ids=["bernoulli", "outage"],
)
def test_on_the_real_air_too(symmetry: str, losses: dict[str, object]) -> None:
    """Packets, bytes and losses of the emulator, forty packets of a hundred values."""
    wire = WireFormat(value_type="float32", mtu_bytes=28 + 20 + 4 * SIZE // PACKETS)
    channel = Wireless.model_validate(
        {
            "path_loss": {"kind": "none"},
            "rate": {"kind": "fixed", "link_bit_per_s": 1e6},
            "fading": {"kind": "none"},
            "power": {"kind": "fixed", "power_w": 0.1},
            "losses": losses | {"symmetry": symmetry},
        }
    ).bind(DEVICES, 1)
    begin = start(5).astype(np.float32)
    toys = [toy(i, begin[i], "keep_own", ValueType.FLOAT32) for i in range(DEVICES)]
    outcomes = one_process.run_lives(
        {i: life(device, 6) for i, device in enumerate(toys)},  # type: ignore[misc]
        {i: Shim(i, wire, BAND, channel) for i in range(DEVICES)},
        lambda *_: None,
    )
    lost = [r.packets_lost for o in outcomes.values() for r in o.link_records]
    assert np.mean(lost) == pytest.approx(0.3 * PACKETS, rel=0.05)
    end = np.stack([outcomes[i].result for i in range(DEVICES)])  # type: ignore[list-item]
    if symmetry == "joint":
        assert drift(begin, end)[0] < 1e-6
    else:
        assert drift(begin, end)[0] > 0.2


@pytest.mark.parametrize("policy", POLICIES)
def test_agreement_is_a_fixed_point_bit_for_bit(policy: LostCoordinates) -> None:
    agreed = np.tile(start(6)[0].astype(np.float32), (DEVICES, 1))
    for number in (ValueType.FLOAT32, ValueType.BFLOAT16):
        after = rounds_of(policy, agreed, arrivals([0.3] * DEVICES, 6, 4), number)
        assert after.tobytes() == agreed.tobytes()


@pytest.mark.parametrize("policy", POLICIES)
def test_without_losses_every_policy_is_keep_own_bit_for_bit(policy: LostCoordinates) -> None:
    begin, everything = start(7), arrivals([0.0] * DEVICES, 7, 4)
    wanted = rounds_of("keep_own", begin, everything, ValueType.BFLOAT16)
    assert rounds_of(policy, begin, everything, ValueType.BFLOAT16).tobytes() == wanted.tobytes()


def test_retransmission_is_as_if_nothing_were_lost() -> None:
    begin, losses = start(8), [0.3] * DEVICES
    wanted = rounds_of("keep_own", begin, arrivals([0.0] * DEVICES, 8, 4))
    got = rounds_of("retransmit", begin, arrivals(losses, 8, 4))
    assert got.tobytes() == wanted.tobytes()
