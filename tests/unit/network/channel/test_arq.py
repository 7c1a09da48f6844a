"""Whole transfers: every loss law over every flow, deadlines included."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.core.rng import stream
from emulator.core.types.packet import Packet
from emulator.core.types.transmission import Grant, Request
from emulator.core.units import linear_from_db, noise_w
from emulator.network.channel.energy import FixedPower, LeastPower
from emulator.network.channel.fading import NoFading, RayleighFading, RicianFading
from emulator.network.channel.flow import SAME_MOMENT
from emulator.network.channel.losses import (
    BernoulliLoss,
    GilbertElliottLoss,
    LogisticLoss,
    Lossless,
    OutageLoss,
)
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import NoPathLoss
from emulator.network.channel.rates import FixedRate, NrCqiRate, ShannonRate
from emulator.network.channel.trace import TraceRate
from emulator.network.channel.transfer import Block

LEAST_P = 1e-3
BAND_HZ = 25e3


def _packets(count: int, reliable_every: int = 0, size: int = 1472) -> tuple[Packet, ...]:
    sizes = [size - 7 * (index % 5) for index in range(count)]
    return tuple(
        Packet(
            data=bytes(length),
            header_bytes=20,
            checksum_bytes=4,
            mask_bytes=0,
            payload_bytes=length - 24,
            reliable=bool(reliable_every) and index % reliable_every == 0,
        )
        for index, length in enumerate(sizes)
    )


def _power_w(snr_db: float, bandwidth_hz: float = BAND_HZ) -> float:
    """The power that gives a mean SNR over a gain of 1."""
    return linear_from_db(snr_db) * noise_w(bandwidth_hz, 0.0)


def _without_geometry(**fields) -> Wireless:
    return Wireless(path_loss=NoPathLoss(), power=FixedPower(power_w=0.1), **fields)


# ── as before there were laws over SNR ───────────────────────────────────────────────────────────

LOSSES = {
    "lossless": Lossless(),
    "bernoulli": BernoulliLoss(probability=0.3),
    "joint": BernoulliLoss(probability=0.05, symmetry="joint"),
}
# Receptions of the code that knew none: a digest of arrivals and attempts, their sums, the airtime.
RECEPTIONS = [
    ("fixed", "wait", "lossless", 1, "b8919cacd0d9f3f2", 60, 60, "0x1.5b8130164840ep-1"),
    ("fixed", "wait", "bernoulli", 1, "050f00a7edc68dae", 45, 65, "0x1.7851eb851eb85p-1"),
    ("fixed", "wait", "bernoulli", 3, "401ac0276a1527ab", 59, 88, "0x1.fdac68a936c59p-1"),
    ("fixed", "wait", "joint", 3, "cba364b413b9b254", 60, 62, "0x1.67253da72a7bdp-1"),
    ("fixed", "lose", "lossless", 1, "16c90029094f1407", 38, 39, "0x1.bc68661ae70c1p-2"),
    ("fixed", "lose", "bernoulli", 1, "1155c89ade55eaf5", 29, 42, "0x1.defc7a398201dp-2"),
    ("fixed", "lose", "bernoulli", 3, "1abdcb10dd697036", 27, 43, "0x1.ea91d9b1b79d9p-2"),
    ("fixed", "lose", "joint", 3, "668a23b29e9354fe", 36, 39, "0x1.bc68661ae70c1p-2"),
    ("rayleigh", "wait", "lossless", 1, "b8919cacd0d9f3f2", 60, 60, "0x1.f228259733ecbp+3"),
    ("rayleigh", "wait", "bernoulli", 3, "84302d316eff2ac1", 59, 79, "0x1.4b5485a609535p+4"),
    ("rayleigh", "wait", "joint", 3, "5d06fe66dbf3c387", 60, 62, "0x1.00d900ea11e96p+4"),
    ("rayleigh", "lose", "bernoulli", 3, "c680a9866d183d92", 7, 7, "0x1.d1936c5083a5fp+0"),
]


@pytest.mark.parametrize(
    ("link", "late", "losses", "tries", "digest", "arrived", "attempts", "airtime"), RECEPTIONS
)
def test_older_laws_keep_their_bytes(link, late, losses, tries, digest, arrived, attempts, airtime):
    fields = {"losses": LOSSES[losses], "late": late, "arq_max_tries": tries, "deadline_s": 0.4}
    fields["acks"] = "free"
    if link == "fixed":
        model = _without_geometry(fading=NoFading(), rate=FixedRate(link_bit_per_s=1e6), **fields)
        channel, grant = model.bind(2, 4), Grant(0, (1,), 10.0, math.inf, 0.1, 3)
    else:
        model = Wireless(
            fading=RayleighFading(coherence_s=0.05, blocks="per_exchange"),
            power=FixedPower(power_w=1e-7),
            **fields,
        )
        channel, grant = model.bind(3, 7), Grant(2, (1,), 3.7, BAND_HZ, 1e-7, 5)
    (reception,) = channel.transmit(_packets(60, reliable_every=9, size=1400), grant)
    written = reception.arrived.tobytes() + reception.attempts.astype("<i8").tobytes()
    assert (reception.arrived.sum(), reception.attempts.sum()) == (arrived, attempts)
    assert hashlib.blake2b(written, digest_size=8).hexdigest() == digest
    # The logarithm of a rate may differ in its last bit between machines, a fixed rate may not.
    exact = float.fromhex(airtime)
    assert reception.airtime_s == (exact if link == "fixed" else pytest.approx(exact, rel=1e-12))


# ── against one try at a time ────────────────────────────────────────────────────────────────────


def _one_try_at_a_time(channel, packets, grant):
    """Arrivals and attempts of a transfer, its duration and airtime [s], from the laws as written."""
    model = channel.model
    block_s, wide = model.fading.block_s, range(500)
    over_s = grant.start_s % block_s if model.fading.blocks == "over_time" else 0.0
    if block_s - over_s < SAME_MOMENT * block_s:
        over_s = 0.0
    edges_s = np.maximum(np.arange(501) * block_s - over_s, 0.0)
    snrs = [channel.signal.snr(grant, block)[0] for block in wide]
    rates = [model.rate.bit_per_s(snr, grant.bandwidth_hz) for snr in snrs]
    lasts_s = np.diff(edges_s)
    ends = np.cumsum(np.array(rates) * lasts_s)
    last = int(np.searchsorted(edges_s, model.deadline_s)) - 1
    budget = ends[last] - rates[last] * (edges_s[last + 1] - model.deadline_s)
    uniform = 1.0 - stream(
        channel.seed, "loss", grant.exchange_index, grant.sender, *grant.receivers
    ).random(len(packets))
    arrived, attempts, now = [], [], 0.0
    for packet, luck in zip(packets, uniform, strict=True):
        bits = 8.0 * packet.air_bytes
        cuttable = model.late == "lose" and not packet.reliable
        made, lost, cut = 0, 1.0, False
        limit = 1000 if packet.reliable else model.arq_max_tries
        while made < limit and not lost < luck and not (cut := cuttable and now >= budget):
            block = int(np.searchsorted(ends, now, side="right"))
            threshold_db = getattr(model.rate, "threshold_db", lambda snr: None)(snrs[block])
            seen = Block(np.array([snrs[block]]), threshold_db, math.inf)
            lost *= float(model.losses.loss_probability(seen, np.array([bits]))[0, 0])
            made, now = made + 1, now + bits
            if cut := cuttable and now > budget:
                now = budget
                break
        arrived.append(lost < luck and not cut)
        attempts.append(made)
    block = int(np.searchsorted(ends, now, side="left"))
    end_s = edges_s[block + 1] - (ends[block] - now) / rates[block]
    silent_s = sum(lasts_s[b] for b in range(block) if rates[b] == 0.0)
    return arrived, attempts, end_s, end_s - silent_s


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.sampled_from(
        [(ShannonRate(), 8.0), (FixedRate(link_bit_per_s=4e4), 3.0), (NrCqiRate(), None)]
    ),
    st.sampled_from(["wait", "lose"]),
    st.sampled_from(
        [
            RayleighFading(coherence_s=0.13),
            RayleighFading(coherence_s=0.13, blocks="per_exchange"),
            RicianFading(k_db=3.0, coherence_s=0.5),
            RayleighFading(coherence_s=0.5, correlation="jakes"),
        ]
    ),
    st.floats(0.0, 30.0),
)
@example(0, 6, (ShannonRate(), 8.0), "lose", RicianFading(k_db=3.0, coherence_s=0.5), 3.0 - 4e-15)
@example(0, 6, (ShannonRate(), 8.0), "wait", RicianFading(k_db=3.0, coherence_s=0.5), 3.0 - 4e-9)
def test_a_transfer_is_that_of_one_try_at_a_time(
    exchange_index, count, rate, late, fading, start_s
):
    law, threshold_db = rate
    channel = _without_geometry(
        rate=law,
        losses=LogisticLoss(threshold_db=threshold_db, slope_per_db=1.0),
        fading=fading,
        late=late,
        arq_max_tries=3,
        deadline_s=1.37,
        acks="free",
    ).bind(2, seed=8)
    packets = _packets(count, reliable_every=4)
    grant = Grant(0, (1,), start_s, BAND_HZ, _power_w(8.0), exchange_index)
    (reception,) = channel.transmit(packets, grant)
    arrived, attempts, end_s, airtime_s = _one_try_at_a_time(channel, packets, grant)
    assert reception.arrival_s == pytest.approx(start_s + end_s, rel=1e-9)
    assert reception.arrived.tolist() == arrived
    assert reception.attempts.tolist() == attempts
    assert reception.airtime_s == pytest.approx(airtime_s, rel=1e-9)


@pytest.mark.parametrize("late", ["wait", "lose"])
def test_reliable_packets_of_a_chain_go_on_after_the_deadline(late):
    channel = _without_geometry(
        fading=NoFading(),
        rate=FixedRate(link_bit_per_s=1e5),
        losses=GilbertElliottLoss(p=0.2, r=0.3),
        late=late,
        arq_max_tries=2,
    ).bind(2, seed=2)
    (reception,) = channel.transmit(_packets(30, 3), Grant(0, (1,), 0.0, BAND_HZ, 0.1, 7))
    assert reception.late
    assert reception.arrived[::3].all()
    tried = reception.attempts > 0
    assert tried.all() == (late == "wait")
    assert np.all(tried[::3])


# ── laws over SNR ────────────────────────────────────────────────────────────────────────────────


def test_outage_is_the_closed_form_of_rayleigh_fading():
    channel = _without_geometry(
        fading=NoFading(),
        rate=ShannonRate(),
        losses=OutageLoss(threshold_db=3.0),
        interference_w=0.5 * noise_w(BAND_HZ, 0.0),
    ).bind(2, seed=1)
    grant = Grant(0, (1,), 0.0, BAND_HZ, _power_w(10.0), 0)
    lost = int((~channel.transmit(_packets(20_000), grant)[0].arrived).sum())
    expected = 1 - math.exp(-linear_from_db(3.0) * 1.5 / 10.0)
    assert stats.binomtest(lost, 20_000, expected).pvalue > LEAST_P


def test_a_packet_at_the_threshold_of_its_cqi_is_lost_with_two_thirds():
    channel = _without_geometry(fading=NoFading(), rate=NrCqiRate(), losses=LogisticLoss()).bind(
        2, seed=1
    )
    packets = _packets(1, size=1452) * 20_000
    grant = Grant(0, (1,), 0.0, BAND_HZ, _power_w(4.23), 0)
    lost = int((~channel.transmit(packets, grant)[0].arrived).sum())
    assert stats.binomtest(lost, 20_000, 1 - 0.9 ** (1480 * 8 / 1024)).pvalue > LEAST_P
    better = Grant(0, (1,), 0.0, BAND_HZ, _power_w(5.5), 0)
    assert int((~channel.transmit(packets, better)[0].arrived).sum()) < 0.05 * 20_000


def test_fades_below_the_first_stair_are_waited_through():
    channel = _without_geometry(
        fading=RayleighFading(coherence_s=0.01), rate=NrCqiRate(), losses=LogisticLoss()
    ).bind(2, seed=1)
    grant = Grant(0, (1,), 0.0, BAND_HZ, _power_w(-9.0), 0)
    snrs = [channel.signal.snr(grant, block)[0] for block in range(3000)]
    dead = np.mean([channel.model.rate.bit_per_s(snr, BAND_HZ) == 0.0 for snr in snrs])
    assert 0.5 < dead < 0.8
    (reception,) = channel.transmit(_packets(4, reliable_every=1), grant)
    assert reception.arrived.all()
    assert reception.airtime_s > reception.attempts.sum() * 11_800 / (5.5547 * BAND_HZ)


def test_a_link_below_the_first_stair_for_ever_is_named():
    channel = _without_geometry(fading=NoFading(), rate=NrCqiRate(), losses=LogisticLoss()).bind(
        2, seed=1
    )
    with pytest.raises(
        EmulatorError,
        match=r"^link 0 -> 1, mean SNR -9\.\d dB: no rate above 0 bit/s for 60 s .*0.*range",
    ):
        channel.transmit(_packets(1, 1), Grant(0, (1,), 0.0, BAND_HZ, _power_w(-9.0), 0))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_least_power_on_the_stairs_is_in_time(seed, count):
    model = Wireless(rate=NrCqiRate(overhead=0.1), max_power_w=1e15, fading=RayleighFading())
    channel = model.bind(2, seed)
    packets = _packets(count)
    num_bytes = sum(packet.air_bytes for packet in packets)
    request = Request(0, (1,), num_bytes, 0.0, 0)
    (grant,) = channel.set_powers([Grant(0, (1,), 0.0, BAND_HZ, 0.0, 0)], [request])
    (reception,) = channel.transmit(packets, grant)
    assert not reception.late
    weaker = Grant(0, (1,), 0.0, BAND_HZ, grant.tx_power_w * 0.99, 0)
    assert channel.model.rate.bit_per_s(channel.signal.snr(weaker, 0)[0], BAND_HZ) < 8 * num_bytes


def test_one_draw_for_each_exchange():
    fading = RayleighFading(coherence_s=None, blocks="per_exchange")
    channel = _without_geometry(fading=fading, rate=ShannonRate()).bind(2, seed=1)
    grants = [Grant(0, (1,), 0.0, BAND_HZ, _power_w(10.0), x) for x in range(5)]
    for grant in grants:
        bits = 8.0 * sum(packet.air_bytes for packet in _packets(50))
        rate = ShannonRate().bit_per_s(channel.signal.snr(grant, 0)[0], BAND_HZ)
        assert channel.transmit(_packets(50), grant)[0].airtime_s == pytest.approx(bits / rate)
    assert len({channel.signal.snr(grant, 0)[0] for grant in grants}) == 5


# ── traces ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def trace(tmp_path) -> TraceRate:
    file = tmp_path / "link.trace"
    file.write_text("".join(f"{line}\n" for line in range(10, 1010, 10)))
    return TraceRate(path=file)


def test_a_trace_sets_the_arrival_in_emulated_time(trace):
    channel = _without_geometry(fading=NoFading(), rate=trace).bind(2, seed=1)
    packets = _packets(1, size=1476) * 3  # 1504 bytes on the air each
    (reception,) = channel.transmit(packets, Grant(0, (1,), 7.004, math.inf, 0.1, 0))
    assert reception.arrival_s == pytest.approx(7.03)
    assert reception.airtime_s == pytest.approx(0.003)  # three milliseconds have a chance
    assert channel.at(0.0).in_range(math.inf, 1.0).tolist() == [[False, True], [True, False]]


def test_a_deadline_cuts_a_trace_between_two_chances(trace):
    channel = _without_geometry(fading=NoFading(), rate=trace, late="lose", deadline_s=0.055).bind(
        2, seed=1
    )
    packets = _packets(1, size=2000) * 5  # 2028 bytes: 5 chances of 1504 are 3.7 packets
    (reception,) = channel.transmit(packets, Grant(0, (1,), 0.0, math.inf, 0.1, 0))
    assert reception.arrived.tolist() == [True] * 3 + [False] * 2
    assert reception.attempts.tolist() == [1] * 4 + [0]
    assert reception.arrival_s == pytest.approx(0.055)  # half a packet waits for the next chance
    assert reception.airtime_s == pytest.approx(0.005)
    assert reception.late


def test_losses_over_a_trace_see_the_fades_of_its_time(trace):
    channel = _without_geometry(
        fading=RayleighFading(coherence_s=0.1),
        rate=trace,
        losses=LogisticLoss(threshold_db=0.0, slope_per_db=50.0),
    ).bind(2, seed=4)
    grant = Grant(0, (1,), 0.0, BAND_HZ, _power_w(0.0), 0)
    packets = _packets(1, size=1476) * 100
    arrived = channel.transmit(packets, grant)[0].arrived
    for block, part in enumerate(np.split(arrived, 10)):
        assert set(part.tolist()) == {channel.signal.snr(grant, block)[0] > 1.0}


# ── what does not go together ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"losses": OutageLoss(threshold_db=0.0)},
            r"losses\.kind: got outage with fading\.kind rayleigh, wanted fading\.kind none",
        ),
        (
            {"losses": LogisticLoss()},
            r"losses\.threshold_db: got None with rate\.kind shannon, wanted an SNR",
        ),
        (
            {"losses": LogisticLoss(threshold_db=1.0), "rate": NrCqiRate()},
            r"losses\.threshold_db: got 1\.0 with rate\.kind nr_cqi, wanted null",
        ),
        (
            {"rate": TraceRate(path="x"), "power": LeastPower()},
            r"power\.kind: got least_power with rate\.kind trace",
        ),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        Wireless(**fields)


def test_laws_over_snr_need_a_finite_band():
    channel = _without_geometry(
        fading=NoFading(),
        rate=FixedRate(link_bit_per_s=1e6),
        losses=OutageLoss(threshold_db=0.0),
    )
    assert channel.needs_band
    with pytest.raises(ScenarioError, match="access: got an infinite bandwidth"):
        channel.bind(2, 0).transmit(_packets(1), Grant(0, (1,), 0.0, math.inf, 0.1, 0))
