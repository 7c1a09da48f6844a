from types import SimpleNamespace

import numpy as np
import pytest

from emulator.network.channel.access import IdealAccess, TdmaAccess
from emulator.runtime.run import MOST_NAMED, describe_shared_slots
from emulator.runtime.run_folder import describe_environment, find_shared_slots


def test_what_last_digits_depend_on_is_recorded(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("EDITOR", "ed")
    described = describe_environment("one_process", "cpu")
    assert described["variables"]["OPENBLAS_CORETYPE"] == "Haswell"
    assert "EDITOR" not in described["variables"]
    assert described["instructions"]


LINE_OF_FOUR = np.abs(np.subtract.outer(np.arange(4), np.arange(4))) == 1
"""The links in range: 0 and 3 may share a slot."""


def used(*links):
    records = tuple(SimpleNamespace(sender=i, receiver=j) for i, j in links)
    return [SimpleNamespace(link_records=records[::2]), SimpleNamespace(link_records=records[1::2])]


def test_links_within_a_slot_are_listed_once():
    access = TdmaAccess(bandwidth_hz=1e6, reuse="distance_2").bind(LINE_OF_FOUR, 0)
    assert access.slot_of[0] == access.slot_of[3]
    outcomes = used((3, 0), (0, 1), (0, 3), (1, 2), (3, 0))
    assert find_shared_slots(SimpleNamespace(access=access), outcomes) == [(0, 3), (3, 0)]
    alone = TdmaAccess(bandwidth_hz=1e6).bind(LINE_OF_FOUR, 0)
    for other in (alone, IdealAccess()):
        assert find_shared_slots(SimpleNamespace(access=other), outcomes) == []


@pytest.mark.parametrize("count", [1, MOST_NAMED, MOST_NAMED + 3])
def test_a_note_names_some_of_them_and_counts_the_rest(count):
    (note,) = describe_shared_slots([(i, i + 1) for i in range(count)])
    assert note.startswith("access.reuse: links 0 -> 1")
    assert ("and 3 more" in note) == (count > MOST_NAMED)
    assert describe_shared_slots([]) == []
