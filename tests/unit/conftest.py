"""What unit tests share: a text as a scenario file; a made-up burst in a ledger."""

from collections.abc import Callable

import pytest

from emulator.core.errors import ScenarioError
from emulator.core.types.records import LinkRecord
from emulator.scenario.load import Reading, read_scenario


@pytest.fixture
def read(tmp_path) -> Callable[..., Reading]:
    """Read a text, with overrides, as the file s.yaml; `name: s` is added where it has no name."""

    def reading(text: str, *overrides: str) -> Reading:
        path = tmp_path / "s.yaml"
        named = text if text.startswith("name:") else f"name: s\n{text}"
        path.write_text(named, encoding="utf-8")
        return read_scenario(path, overrides)

    return reading


@pytest.fixture
def problems(read) -> Callable[..., tuple[str, ...]]:
    """The problems of a text, each of them one line."""

    def listed(text: str, *overrides: str) -> tuple[str, ...]:
        with pytest.raises(ScenarioError) as caught:
            read(text, *overrides)
        for line in caught.value.problems:
            assert line.strip()
            assert "\n" not in line
        return caught.value.problems

    return listed


@pytest.fixture
def burst() -> Callable[..., LinkRecord]:
    """Make a burst that adds up.

    Unless told otherwise 100 bfloat16 values, in one packet beside its header packet, that arrive.
    """

    def made(sender=0, receiver=1, **told) -> LinkRecord:
        columns = {
            "exchange_index": 0, "round_index": 0, "traffic": "in_cluster", "messages": 1,
            "packets": 2, "packets_lost": 0, "attempts": 2, "header_bytes": 146,
            "checksum_bytes": 8, "mask_bytes": 0, "payload_bytes": 200, "retransmitted_bytes": 0,
            "ack_bytes": 49, "lost_bytes": 0, "start_s": 0.0, "arrival_s": 0.5, "airtime_s": 0.5,
            "bandwidth_hz": 1e6, "tx_power_w": 0.1, "energy_j": 0.05, "late": False,
            "reliable_packets": 1, "value_messages": 1, "values": 100, "value_tensors": 1,
            "mask_entries": 0, "mask_coordinates": 0, "known_entries": 0, "known_coordinates": 0,
        } | told  # fmt: skip
        classes = ("header", "checksum", "mask", "payload", "retransmitted")
        sent = sum(columns[f"{name}_bytes"] for name in classes)
        columns.setdefault("delivered_bytes", sent - columns["lost_bytes"])
        return LinkRecord(sender=sender, receiver=receiver, **columns)

    return made
