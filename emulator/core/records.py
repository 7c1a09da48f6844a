"""Measurements and costs of a run: tables, identities, and the summary. This file needs no torch.

Units are in the column names. Rows are sorted, so that equal runs give equal bytes.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emulator.core.columns import column_types, read_columns
from emulator.core.errors import EmulatorError
from emulator.core.types.packet import IP_UDP_BYTES
from emulator.core.types.records import LinkRecord, MetricRecord

ANSWER_METRICS = ("accuracy", "exact_match")
"""Metrics of the final answers; every task has exactly one of them."""

ROUTED_TO = "routed_to/"
"""Prefix of a metric's name; the task to which questions were routed follows."""


def sort_ledger(records: Iterable[LinkRecord]) -> list[LinkRecord]:
    """All bursts, sorted by (exchange, sender, receiver, origin, destination, hop)."""

    def place(r: LinkRecord) -> tuple[int, ...]:
        return r.exchange_index, r.sender, r.receiver, r.origin, r.destination, r.hop

    return sorted(records, key=place)


def sort_metrics(records: Iterable[MetricRecord]) -> list[MetricRecord]:
    """All measurements, sorted by (round, device, task, metric)."""
    return sorted(records, key=lambda r: (r.round_index, r.device, r.task, r.metric))


def parquet(rows: Sequence[LinkRecord] | Sequence[MetricRecord], kind: type) -> bytes:
    """A Parquet file of records of one kind; the same rows give the same bytes."""
    schema = pa.schema(list(column_types(kind).items()))
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()


def read_ledger(path: Path) -> list[LinkRecord]:
    """Read the bursts of a ledger; the values of columns that an older ledger lacks are UNRECORDED.

    Raises ScenarioError for a file that is not a ledger, and EmulatorError if its bytes do not add up.
    """
    table = read_columns(path, LinkRecord, "ledger")
    records = [LinkRecord(**row) for row in table.to_pylist()]
    try:
        check_account(records)
    except EmulatorError as error:
        raise EmulatorError(f"{path}: {error}") from None
    return records


def check_account(records: Iterable[LinkRecord]) -> None:
    """Check that sent = delivered + lost in bytes, and that no more packets were lost than sent.

    Raises EmulatorError, which names the burst.
    """
    for r in records:
        if r.sent_bytes != r.delivered_bytes + r.lost_bytes or r.packets_lost > r.packets:
            raise EmulatorError(
                f"account of exchange {r.exchange_index}, link {r.sender}->{r.receiver}: got "
                f"{r.sent_bytes} B sent, {r.delivered_bytes} delivered, {r.lost_bytes} lost; "
                "wanted sent = delivered + lost"
            )


def check_carried(sender: int, records: Iterable[LinkRecord], data_bytes_to: Sequence[int]) -> None:
    """Check that the bytes delivered in the account equal the bytes that torch.distributed carried.

    records: the records of a device's messages on every hop; the last hop delivers to the receiver.
    data_bytes_to: bytes given to torch.distributed for each device; empty if nothing was carried.
    IPv4 and UDP headers exist on the emulated channel only. Raises EmulatorError, which names the link.
    """
    arrived = [0] * len(data_bytes_to)
    for r in records if data_bytes_to else ():
        if r.last_hop:
            arrived[r.receiver] += r.delivered_bytes - IP_UDP_BYTES * (r.packets - r.packets_lost)
    for receiver, (delivered, carried) in enumerate(zip(arrived, data_bytes_to, strict=True)):
        if delivered != carried:
            raise EmulatorError(
                f"account of link {sender}->{receiver}: got {delivered} B delivered (without IP and "
                f"UDP headers) and {carried} B given to torch.distributed, wanted equal numbers"
            )


def bytes_account(records: Sequence[LinkRecord]) -> dict[str, int]:
    """Bytes transmitted on the channel, by phase of the run and by class.

    total = setup + in_cluster + inter_cluster + control = payload + mask + header + ack +
    retransmitted. control counts the messages by which devices decide whether to stop; header includes
    checksums and IPv4+UDP headers. A broadcast counts once. lost counts the bytes that did not arrive,
    at each receiver of a broadcast.
    """

    def of_traffic(traffic: str) -> int:
        return sum(r.air_bytes + r.ack_bytes for r in records if r.traffic == traffic)

    aired = [r for r in records if r.on_air]
    return {
        "total": sum(r.air_bytes + r.ack_bytes for r in records),
        "setup": of_traffic("setup"),
        "in_cluster": of_traffic("in_cluster"),
        "inter_cluster": of_traffic("inter_cluster"),
        "control": of_traffic("control"),
        "payload": sum(r.payload_bytes for r in aired),
        "mask": sum(r.mask_bytes for r in aired),
        "header": sum(r.header_bytes + r.checksum_bytes for r in aired),
        "ack": sum(r.ack_bytes for r in records),
        "retransmitted": sum(r.retransmitted_bytes for r in aired),
        "lost": sum(r.lost_bytes for r in records),
    }


def accuracy_account(
    metrics: Sequence[MetricRecord], own_task: Sequence[str], last_round: int
) -> dict[str, Any]:
    """Accuracy of the final answers: mean over devices and tasks, on the own task, and per task."""
    answers = [m for m in metrics if m.metric in ANSWER_METRICS and m.round_index == last_round]
    tasks = list(dict.fromkeys(m.task for m in answers))
    return {
        "mean": _mean(m.value for m in answers),
        "own_task": _mean(m.value for m in answers if m.task == own_task[m.device]),
        "per_task": {t: _mean(m.value for m in answers if m.task == t) for t in sorted(tasks)},
    }


def parameters_account(
    metrics: Sequence[MetricRecord],
    ledger: Sequence[LinkRecord],
    devices: int,
    rounds: int,
    value_bytes: int,
) -> dict[str, float | None]:
    """Parameters that a device trains, and parameters that it sends in a round, as means over devices.

    A message counts once, for any number of receivers and hops (the bytes count all copies). A device
    that sends nothing in a round counts as 0. int8 scales count as values.
    """
    sent = {
        (r.sender, r.exchange_index): r.payload_bytes
        for r in ledger
        if r.traffic == "in_cluster" and 0 <= r.round_index < rounds and r.first_hop
    }
    return {
        "trained_parameters": _mean(m.value for m in metrics if m.metric == "trained_parameters"),
        "transmitted_parameters": sum(sent.values()) / value_bytes / (devices * rounds),
    }


def routing_account(metrics: Sequence[MetricRecord]) -> dict[str, Any]:
    """Results of routing, as means over the devices; None for a value that was not measured.

    confusion: true task -> {task of the chosen expert, or "abstained": share}; the shares of a row sum
    to one. accuracy_paraphrased: on questions in words unseen in training. abstained_unseen and
    abstention_auroc: on out-of-distribution tasks, which no device learns.
    """

    def mean_of(metric: str, task: str | None = None) -> float | None:
        return _mean(m.value for m in metrics if m.metric == metric and task in (None, m.task))

    went = [m for m in metrics if m.metric.startswith(ROUTED_TO) or m.metric == "abstained"]
    cells = sorted({(m.task, m.metric) for m in went})
    confusion: dict[str, dict[str, float | None]] = {}
    for task, metric in cells:
        row = confusion.setdefault(task, {})
        row[metric.removeprefix(ROUTED_TO)] = mean_of(metric, task)
    return {
        "accuracy_paraphrased": mean_of("routing_accuracy_paraphrased"),
        "abstained": mean_of("abstained"),
        "abstained_paraphrased": mean_of("abstained_paraphrased"),
        "abstained_unseen": mean_of("abstained_unseen"),
        "abstention_auroc": mean_of("abstention_auroc"),
        "confusion": confusion,
    }


def asked_account(metrics: Sequence[MetricRecord]) -> dict[str, float | None]:
    """Optional measurements of `evaluation`, as means over devices and exchanges; None if not measured.

    answers_paraphrased: accuracy of final answers to questions in words unseen in training.
    forgetting: accuracy on the own task before an exchange minus the accuracy after it. dilution:
    accuracy before an exchange minus the accuracy of the control, which is the same exchange if the
    other devices had learnt nothing in the round. Only exchanges with both measurements count.
    exchange_shift: relative distance by which an exchange moved the trained vector. control_...:
    accuracy on the own task at the end, without a router.
    """

    def mean_of(*names: str) -> float | None:
        return _mean(m.value for m in metrics if m.metric in names)

    def looks(prefix: str) -> dict[tuple[int, int], float]:
        names = [prefix + answer for answer in ANSWER_METRICS]
        return {(m.device, m.round_index): m.value for m in metrics if m.metric in names}

    def lost(to: str) -> float | None:
        before, after = looks("before_"), looks(to)
        return _mean(before[look] - after[look] for look in sorted(before.keys() & after.keys()))

    averaged = mean_of("control/averaged")
    return {
        "answers_paraphrased": mean_of(*(f"{answer}_paraphrased" for answer in ANSWER_METRICS)),
        "forgetting": lost("own_"),
        "dilution": lost("diluted_"),
        "exchange_shift": mean_of("exchange_shift"),
        "control_alone": mean_of("control/alone"),
        "control_summed": mean_of("control/summed"),
        "control_diluted": mean_of("control/diluted"),
        **({} if averaged is None else {"control_averaged": averaged}),
    }


def summarise(
    description: Mapping[str, Any],
    own_task: Sequence[str],
    metrics: Sequence[MetricRecord],
    ledger: Sequence[LinkRecord],
    emulated_s: float,
    compute_energy_j: float,
) -> dict[str, Any]:
    """The summary of a run without its wall-clock keys."""

    def mean_of(metric: str) -> float | None:
        return _mean(m.value for m in metrics if m.metric == metric)

    transmit_energy_j = sum(r.energy_j + r.ack_energy_j for r in ledger)
    return {
        **description,
        "accuracy": accuracy_account(metrics, own_task, int(description["rounds"]) - 1),
        "routing_accuracy": mean_of("routing_accuracy"),
        "routing": routing_account(metrics),
        "asked": asked_account(metrics),
        "collision_rate": mean_of("collision_rate"),
        "bytes": bytes_account(ledger),
        "packets": {
            "addressed": sum(r.packets for r in ledger),
            "lost": sum(r.packets_lost for r in ledger),
            "tries": sum(r.attempts for r in ledger if r.on_air),
        },
        "late_bursts": sum(r.late for r in ledger),
        "bursts": len(ledger),
        "emulated_s": emulated_s,
        "last_arrival_s": max((r.arrival_s for r in ledger), default=0.0),
        "airtime_s": sum(r.airtime_s + r.ack_airtime_s for r in ledger),
        "energy_j": transmit_energy_j + compute_energy_j,
        "energy_transmit_j": transmit_energy_j,
        "energy_compute_j": compute_energy_j,
    }


LARGEST_LAG = 0.05
"""Largest lag of a paced run, as a share of a round, at which it still keeps pace."""


def pacing_account(lags: Sequence[Mapping[str, float]], round_s: float) -> dict[str, Any]:
    """Lag of all devices behind the paced clock: the largest value of each figure [wall s].

    round_s: mean length of a round. keeps_pace: whether the 99th percentile is within LARGEST_LAG.
    """
    worst = {
        name: max(lag[name] for lag in lags) for name in ("lag_p50_s", "lag_p99_s", "lag_max_s")
    }
    share = worst["lag_p99_s"] / round_s if round_s else 0.0
    frames = sum(lag["frames"] for lag in lags)
    return {
        **worst,
        "frames": int(frames),
        "round_s": round_s,
        "lag_share_of_round": share,
        "keeps_pace": share <= LARGEST_LAG,
    }


def to_json(record: LinkRecord | MetricRecord) -> dict[str, Any]:
    """A record as plain JSON values; floats are read back exactly."""
    return dict(vars(record))


def _mean(values: Iterable[float]) -> float | None:
    """The mean, or None if there are no values."""
    known = list(values)
    return fmean(known) if known else None
