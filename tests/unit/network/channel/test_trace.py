"""Packet-delivery traces, against a walk over one chance at a time."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.core.errors import ScenarioError
from emulator.network.channel.flow import Blocks
from emulator.network.channel.trace import CHANCE_BITS, TraceFlow, TraceRate


def _trace(folder: Path, *lines: object) -> TraceRate:
    file = folder / "link.trace"
    file.write_text("".join(f"{line}\n" for line in lines))
    return TraceRate(path=file)


def _flow(chances_ms: list[int], start_s: float = 0.0, block_s: float = math.inf) -> TraceFlow:
    blocks = Blocks.over_time(block_s, start_s)
    return TraceFlow(np.array(chances_ms, dtype=np.int64), start_s, blocks)


def _one_chance_at_a_time(chances_ms: list[int], start_s: float):
    """The moments of the chances after the start, in seconds after it."""
    for loop in itertools.count():
        for line in chances_ms:
            moment_ms = loop * chances_ms[-1] + line
            if moment_ms > start_s * 1000.0 + 1e-6:
                yield moment_ms / 1000.0 - start_s


def test_a_chance_takes_1504_bytes():
    flow = _flow([5, 10, 10, 40])
    bits = np.array([0.0, 1.0, 12_032.0, 12_033.0, 3 * 12_032.0, 4 * 12_032.0])
    assert CHANCE_BITS == 12_032
    assert flow.finish_times_s(bits) == pytest.approx([0.0, 0.005, 0.005, 0.01, 0.01, 0.04])


def test_the_file_loops_and_its_last_line_is_the_next_zero():
    flow = _flow([0, 5, 10])
    bits = 12_032.0 * np.arange(1, 8)
    # A transfer that starts at 0 cannot use the chance at 0; its next loop begins with the last line.
    assert flow.finish_times_s(bits) == pytest.approx([0.005, 0.01, 0.01, 0.015, 0.02, 0.02, 0.025])


def test_chances_before_the_start_are_not_used():
    assert _flow([5, 10], start_s=0.007).finish_times_s(np.array([1.0])) == pytest.approx([0.003])
    assert _flow([5, 10], start_s=0.01).finish_times_s(np.array([1.0])) == pytest.approx([0.005])
    assert _flow([5, 10], start_s=123.456).finish_times_s(np.array([1.0])) == pytest.approx([0.004])


def test_the_next_transfer_never_uses_the_same_chance():
    chances_ms, now_s, used = [3, 4, 4, 9, 17], 0.0, []
    for _ in range(60):
        now_s += float(_flow(chances_ms, now_s).finish_times_s(np.array([100.0]))[0])
        used.append(round(now_s * 1000, 6))
    assert used[:5] == [3.0, 4.0, 9.0, 17.0, 20.0]
    assert len(set(used)) == len(used)


traces = st.lists(st.integers(0, 40), min_size=1, max_size=20).map(sorted).filter(lambda x: x[-1])


@given(traces, st.floats(0.0, 5.0), st.lists(st.floats(1.0, 2e6), min_size=1, max_size=10))
def test_finish_times_are_those_of_one_chance_at_a_time(chances_ms, start_s, bits):
    bits_K = np.sort(np.array(bits))
    moments = list(
        itertools.islice(
            _one_chance_at_a_time(chances_ms, start_s), math.ceil(bits_K[-1] / CHANCE_BITS)
        )
    )
    expected = [moments[math.ceil(x / CHANCE_BITS) - 1] for x in bits_K]
    assert _flow(chances_ms, start_s).finish_times_s(bits_K) == pytest.approx(expected, abs=1e-9)


@given(traces, st.floats(0.0, 5.0), st.floats(0.0, 2.0))
def test_bits_within_counts_the_chances(chances_ms, start_s, deadline_s):
    moments = itertools.takewhile(
        lambda moment: moment <= deadline_s + 1e-9, _one_chance_at_a_time(chances_ms, start_s)
    )
    count = sum(1 for _ in moments)
    assert _flow(chances_ms, start_s).bits_within(deadline_s) == count * CHANCE_BITS


def test_block_ends_count_the_chances_up_to_them():
    flow = _flow([10, 20, 30], start_s=0.005, block_s=0.02)
    assert list(itertools.islice(flow.bits_at_block_ends(), 4)) == [
        CHANCE_BITS * count for count in (2, 4, 6, 8)
    ]
    assert list(_flow([10]).bits_at_block_ends()) == [math.inf]


def test_power_matters_to_nothing(tmp_path):
    rate = _trace(tmp_path, 100, 400, 1000)
    assert rate.mean_bit_per_s == pytest.approx(3 * 12_032)
    assert rate.log_snr(36_000.0, 1.0) == -math.inf
    assert rate.log_snr(37_000.0, 1.0) == math.inf
    assert rate.reachable_bit_per_s(1e9, 1.0) == rate.mean_bit_per_s
    assert rate.flow(0.0, Blocks(math.inf)).finish_times_s(np.array([20_000.0])) == pytest.approx(
        [0.4]
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "wanted milliseconds that never fall"),
        ([0, 0], "the last of them above 0"),
        ([3, 2], "wanted milliseconds that never fall"),
        ([1, "x", 3], "got 'x' in line 2"),
        ([1, "", 3], "got '' in line 2"),
        ([1.5], "got '1.5' in line 1"),
    ],
)
def test_a_file_that_is_no_trace_is_one_clear_error(tmp_path, lines, message):
    rate = _trace(tmp_path, *lines)
    with pytest.raises(ScenarioError, match=message):
        rate.flow(0.0, Blocks(math.inf))


def test_a_missing_trace_is_wrong_input(tmp_path):
    with pytest.raises(ScenarioError, match=r"channel\.rate\.path: got .*none, wanted a readable"):
        TraceRate(path=tmp_path / "none").flow(0.0, Blocks(math.inf))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1\n" + "9" * 5000, "(5002 characters) in line 2 of "),
        ("1\n12345678901234567890", "got '12345678901234567890' in line 2 of "),
        ("1\n\u0663", "got '\u0663' in line 2 of "),
        ("1\n-3", "got '-3' in line 2 of "),
    ],
    ids=["5000 digits", "20 digits", "other digits", "a sign"],
)
def test_a_moment_that_no_clock_has_is_wrong_input(tmp_path, text, told):
    (tmp_path / "trace").write_text(text)
    with pytest.raises(ScenarioError) as caught:
        _ = TraceRate(path=tmp_path / "trace").chances_ms
    (line,) = caught.value.problems
    assert told in line
    assert line.endswith("wanted milliseconds of at most 12 digits")
    assert len(line) < 400


def test_a_trace_with_a_byte_order_mark_and_one_that_is_no_file(tmp_path):
    (tmp_path / "trace").write_bytes(b"\xef\xbb\xbf1\r\n2\r\n")
    assert TraceRate(path=tmp_path / "trace").chances_ms.tolist() == [1, 2]
    with pytest.raises(ScenarioError, match=r"wanted a readable trace \(Is a directory\)"):
        _ = TraceRate(path=tmp_path).chances_ms
    (tmp_path / "trace").write_bytes(b"1\n\xff")
    with pytest.raises(ScenarioError, match=r"wanted a readable trace \(no UTF-8\)"):
        _ = TraceRate(path=tmp_path / "trace").chances_ms
