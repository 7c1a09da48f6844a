"""The account: identities are checked, sums agree, equal rows give equal bytes."""

import json
import math
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.core.errors import EmulatorError
from emulator.core.records import (
    accuracy_account,
    asked_account,
    bytes_account,
    check_account,
    check_carried,
    parameters_account,
    parquet,
    routing_account,
    sort_ledger,
    sort_metrics,
    summarise,
    to_json,
)
from emulator.core.types.records import LinkRecord, MetricRecord

amounts = st.integers(0, 10**9)


@st.composite
def link_records(draw):
    """A burst with a correct account."""
    parts = {
        f"{part}_bytes": draw(amounts)
        for part in ("header", "checksum", "mask", "payload", "retransmitted")
    }
    sent = sum(parts.values())
    lost = draw(st.integers(0, sent))
    packets = draw(st.integers(0, 1000))
    start_s = draw(st.floats(0, 1e6))
    return LinkRecord(
        exchange_index=draw(st.integers(0, 3)),
        round_index=draw(st.integers(-1, 3)),
        traffic=draw(st.sampled_from(["setup", "in_cluster", "inter_cluster", "control"])),
        sender=draw(st.integers(0, 9)),
        receiver=draw(st.integers(0, 9)),
        messages=1,
        packets=packets,
        packets_lost=draw(st.integers(0, packets)),
        attempts=draw(st.integers(packets, 2000)),
        ack_bytes=draw(amounts),
        lost_bytes=lost,
        delivered_bytes=sent - lost,
        start_s=start_s,
        arrival_s=start_s,
        airtime_s=draw(st.floats(0, 1e3)),
        bandwidth_hz=draw(st.sampled_from([math.inf, 2e4])),
        tx_power_w=0.1,
        energy_j=draw(st.floats(0, 1e3)),
        late=draw(st.booleans()),
        **parts,
    )


metrics = st.builds(
    MetricRecord,
    device=st.integers(0, 3),
    round_index=st.integers(-1, 3),
    task=st.sampled_from(["", "reverse", "sort"]),
    metric=st.sampled_from(["train_loss", "accuracy", "collision_rate"]),
    value=st.floats(allow_nan=False),
)
ledgers = st.lists(
    link_records(), max_size=8, unique_by=lambda r: (r.exchange_index, r.sender, r.receiver)
)
tables = st.lists(
    metrics, max_size=12, unique_by=lambda m: (m.round_index, m.device, m.task, m.metric)
)


@given(ledgers)
def test_a_right_account_passes(ledger):
    check_account(ledger)


@given(link_records(), st.integers(1, 9))
def test_a_byte_too_many_names_the_burst(record, extra):
    for wrong in (
        replace(record, delivered_bytes=record.delivered_bytes + extra),
        replace(record, lost_bytes=record.lost_bytes + extra),
        replace(record, payload_bytes=record.payload_bytes + extra),
        replace(record, packets_lost=record.packets + extra),
    ):
        named = f"exchange {record.exchange_index}, link {record.sender}->{record.receiver}"
        with pytest.raises(EmulatorError, match=named):
            check_account([record, wrong])


def test_carried_bytes_equal_delivered_bytes_of_the_account(burst):
    """28 bytes of IP and UDP per delivered packet exist on the emulated channel only; lost packets are not carried."""
    whole = burst(sender=2, receiver=0)
    thinned = burst(sender=2, receiver=0, packets=3, packets_lost=1, lost_bytes=100)
    other = burst(sender=2, receiver=1)
    to_zero = whole.delivered_bytes + thinned.delivered_bytes - 28 * (2 + 2)
    carried = [to_zero, other.delivered_bytes - 28 * 2, 0]
    check_carried(2, [whole, thinned, other], carried)
    check_carried(2, [whole, thinned, other], [])
    for device in range(3):
        wrong = [count + (index == device) for index, count in enumerate(carried)]
        with pytest.raises(EmulatorError, match=f"link 2->{device}"):
            check_carried(2, [whole, thinned, other], wrong)


@given(ledgers)
def test_bytes_add_up_by_part_of_the_life_and_by_class(ledger):
    account = bytes_account(ledger)
    total = sum(record.sent_bytes + record.ack_bytes for record in ledger)
    assert account["total"] == total
    parts = ("setup", "in_cluster", "inter_cluster", "control")
    assert sum(account[name] for name in parts) == total
    classes = ("payload", "mask", "header", "ack", "retransmitted")
    assert sum(account[name] for name in classes) == total
    assert account["lost"] <= total


@settings(max_examples=25, deadline=None)
@given(ledgers, tables, st.randoms(use_true_random=False))
def test_equal_runs_give_equal_bytes_whatever_the_order(ledger, table, shuffler):
    for rows_of, records, kind in (
        (sort_ledger, ledger, LinkRecord),
        (sort_metrics, table, MetricRecord),
    ):
        shuffled = list(records)
        shuffler.shuffle(shuffled)
        assert parquet(rows_of(shuffled), kind) == parquet(rows_of(records), kind)


@settings(max_examples=25, deadline=None)
@given(ledgers, tables)
def test_a_file_holds_the_rows_sorted_and_exactly(tmp_path_factory, ledger, table):
    path = tmp_path_factory.mktemp("records") / "rows.parquet"
    path.write_bytes(parquet(sort_ledger(ledger), LinkRecord))
    rows = pq.read_table(path).to_pylist()
    assert [LinkRecord(**row) for row in rows] == sort_ledger(ledger)
    order = [(row["exchange_index"], row["sender"], row["receiver"]) for row in rows]
    assert order == sorted(order)
    path.write_bytes(parquet(sort_metrics(table), MetricRecord))
    rows = pq.read_table(path).to_pylist()
    assert [MetricRecord(**row) for row in rows] == sort_metrics(table)
    order = [(row["round_index"], row["device"], row["task"], row["metric"]) for row in rows]
    assert order == sorted(order)


@given(link_records())
def test_a_record_comes_back_from_json(record):
    assert LinkRecord(**json.loads(json.dumps(to_json(record)))) == record


ANSWERS = [
    MetricRecord(0, 4, "reverse", "exact_match", 1.0),
    MetricRecord(0, 4, "sort", "exact_match", 0.5),
    MetricRecord(1, 4, "reverse", "exact_match", 0.0),
    MetricRecord(1, 4, "sort", "accuracy", 0.25),
    MetricRecord(1, 3, "sort", "exact_match", 0.9),  # not the last round
    MetricRecord(1, 4, "sort", "train_loss", 7.0),  # not an answer
]


def test_accuracy_is_of_the_last_round_by_task_and_own_task():
    account = accuracy_account(ANSWERS, ["reverse", "sort"], last_round=4)
    assert account == {
        "mean": 0.4375,
        "own_task": 0.625,
        "per_task": {"reverse": 0.5, "sort": 0.375},
    }
    assert list(account["per_task"]) == ["reverse", "sort"]


def test_without_answers_there_is_no_accuracy():
    account = accuracy_account(ANSWERS, ["reverse", "sort"], last_round=9)
    assert account == {"mean": None, "own_task": None, "per_task": {}}


def test_routes_are_means_over_devices_row_by_row():
    shares = {"routed_to/sort": 0.75, "routed_to/reverse": 0.0, "abstained": 0.25}
    measured = [
        MetricRecord(device, 4, "sort", metric, value if device else 1.0 * (metric == "abstained"))
        for device in (0, 1)
        for metric, value in shares.items()
    ]
    measured += [
        MetricRecord(0, 4, "sort", "routing_accuracy_paraphrased", 0.5),
        MetricRecord(0, 4, "echo", "abstained_unseen", 0.75),
        MetricRecord(0, 4, "echo", "abstention_auroc", 0.875),
    ]
    assert routing_account(measured) == {
        "accuracy_paraphrased": 0.5,
        "abstained": 0.625,
        "abstained_paraphrased": None,
        "abstained_unseen": 0.75,
        "abstention_auroc": 0.875,
        "confusion": {"sort": {"abstained": 0.625, "reverse": 0.0, "sort": 0.375}},
    }
    assert routing_account(ANSWERS)["confusion"] == {}


def test_forgetting_and_dilution_are_differences_of_accuracy():
    looks = {
        "before_exact_match": [1.0, 0.8],
        "own_exact_match": [0.5, 0.3],
        "diluted_exact_match": [0.7, 0.5],
        "exchange_shift": [0.2, 0.4],
        "control/summed": [0.25, 0.75],
        "accuracy_paraphrased": [0.125],
    }
    found = asked_account(
        [
            MetricRecord(device, 4, "sort", metric, value)
            for metric, values in looks.items()
            for device, value in enumerate(values)
        ]
        + [MetricRecord(2, 4, "sort", "before_exact_match", 0.0)]
    )
    # A device that measured only before, because it exchanges nothing in that round, does not count.
    assert found.pop("control_alone") is None
    assert found.pop("control_diluted") is None
    assert found == pytest.approx(
        {
            "answers_paraphrased": 0.125,
            "forgetting": 0.5,
            "dilution": 0.3,
            "exchange_shift": 0.3,
            "control_summed": 0.5,
        }
    )
    assert set(asked_account(ANSWERS).values()) == {None}


def test_a_summary_has_what_readers_rely_on():
    description = {"method": "lora", "devices": 2, "rounds": 5, "seed": 1}
    summary = summarise(description, ["reverse", "sort"], ANSWERS, [], 12.5, 3.0)
    promised = {
        "method", "devices", "rounds", "seed", "accuracy", "routing_accuracy", "collision_rate",
        "bytes", "emulated_s", "airtime_s", "energy_j",
    }  # fmt: skip
    assert promised <= set(summary)
    assert summary["accuracy"]["mean"] == 0.4375
    assert summary["routing_accuracy"] is None
    assert (summary["emulated_s"], summary["energy_j"]) == (12.5, 3.0)
    assert set(summary["bytes"]) == {
        "total", "setup", "in_cluster", "inter_cluster", "control", "payload", "mask", "header", "ack",
        "retransmitted", "lost",
    }  # fmt: skip


@given(ledgers)
def test_a_summary_sums_the_ledger(ledger):
    description = {"method": "lora", "devices": 2, "rounds": 5, "seed": 1}
    summary = summarise(description, [], [], ledger, 0.0, 2.0)
    assert summary["bursts"] == len(ledger)
    assert summary["late_bursts"] == sum(record.late for record in ledger)
    assert summary["energy_j"] == summary["energy_transmit_j"] + 2.0
    assert summary["packets"]["lost"] == sum(record.packets_lost for record in ledger)


@given(ledgers, tables)
def test_parameters_are_counted_message_by_message(ledger, table):
    """Against a slow reference: every device in every round, with any receivers."""
    got = parameters_account(table, ledger, devices=10, rounds=3, value_bytes=2)
    total = 0.0
    for device in range(10):
        for exchange in range(4):
            mine = [
                r.payload_bytes
                for r in ledger
                if r.sender == device and r.exchange_index == exchange
                if r.traffic == "in_cluster" and 0 <= r.round_index < 3
            ]
            total += mine[-1] / 2 if mine else 0.0
    assert got["transmitted_parameters"] == pytest.approx(total / 30)
    assert got["trained_parameters"] is None


def test_trained_parameters_are_a_mean_over_devices():
    counts = [MetricRecord(i, -1, "", "trained_parameters", 10.0 * i) for i in (1, 2)]
    account = parameters_account(counts, [], devices=2, rounds=1, value_bytes=2)
    assert account == {"trained_parameters": 15.0, "transmitted_parameters": 0.0}
