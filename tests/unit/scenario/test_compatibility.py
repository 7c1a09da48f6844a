"""The class of a method declares its limits on other sections, also a user's own class."""

import pytest

METHOD = """
from typing import ClassVar

from emulator.methods import Lora


class Mine(Lora):
    kind: str
    waits_for_all: ClassVar[bool] = True
    own_router: ClassVar[str] = "uniform"

    def loss_conflict(self, policy):
        return "under a test, wanted another" if policy == "drop_message" else ""
"""


@pytest.fixture
def kind(tmp_path, monkeypatch) -> str:
    (tmp_path / "own_method_of_a_test.py").write_text(METHOD, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return "method.kind=own_method_of_a_test:Mine"


def test_settings_that_wait_for_all_devices_are_not_asynchronous(problems, kind) -> None:
    assert problems("devices: 4", kind, "schedule.kind=asynchronous") == (
        "s.yaml: schedule.kind: got asynchronous with method.kind: own_method_of_a_test:Mine, wanted "
        "one of the two",
    )


def test_asynchronous_rounds_have_no_checkpoints(problems, read) -> None:
    """Devices are never at the same point, and messages are under way."""
    asynchronous = (
        "devices: 4",
        "schedule.kind=asynchronous",
        "method.kind=lora",
        "topology.kind=ring",
    )
    assert problems(*asynchronous, "checkpoint_every=2") == (
        "s.yaml: schedule.kind: got asynchronous with checkpoint_every: 2, wanted one of the two",
    )
    for every in ("0", "null"):
        assert read(*asynchronous, f"checkpoint_every={every}").scenario.rounds_per_checkpoint == 0


def test_a_policy_that_means_nothing_under_a_method_is_refused(problems, read, kind) -> None:
    assert problems("devices: 4", kind, "wire.lost_coordinates=drop_message") == (
        "s.yaml: wire.lost_coordinates: got drop_message under a test, wanted another",
    )
    read("devices: 4", kind, "wire.lost_coordinates=keep_own")


def test_a_method_replaces_the_router_with_a_note(read, kind) -> None:
    reading = read("devices: 4", kind, "router.kind=cosine")
    assert reading.scenario.router.kind == "uniform"
    assert reading.notes == ("router: own_method_of_a_test:Mine uses uniform in place of cosine",)
