"""Devices join on the terms of device 0, or no device joins."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from processes import LIMIT_S
from torch.distributed import HashStore

from emulator.core.errors import ScenarioError
from emulator.runtime.transport.peers import PeerFailedError
from emulator.runtime.transport.store import join_run

TERMS = {"seed": "1", "method.kind": "lora"}


def joined(
    terms_by_device: Mapping[int, Mapping[str, str]], devices: int, stall_timeout_s: float = LIMIT_S
) -> dict[int, BaseException | None]:
    """How joining ended for each device, the last started first."""
    store = HashStore()
    with ThreadPoolExecutor(len(terms_by_device)) as pool:
        ends = {
            device: pool.submit(join_run, store, device, devices, terms, stall_timeout_s)
            for device, terms in sorted(terms_by_device.items(), reverse=True)
        }
    return {device: end.exception() for device, end in ends.items()}


def test_all_with_the_same_terms_join() -> None:
    assert set(joined(dict.fromkeys(range(5), TERMS), 5).values()) == {None}


def test_no_device_joins_before_all_have_come() -> None:
    began_s = time.monotonic()
    ends = joined({0: TERMS, 2: TERMS}, 3, stall_timeout_s=2)
    assert time.monotonic() - began_s >= 2
    for device, end in ends.items():
        assert isinstance(end, PeerFailedError)
        assert str(end) == (
            f"joining: device {device} received nothing from device 1 for 2 s (stall_timeout_s)"
        )


@pytest.mark.parametrize(
    ("other", "differences"),
    [
        ({**TERMS, "seed": "2"}, ["seed: got 2, wanted 1"]),
        ({"seed": "1"}, ["method.kind: got nothing, wanted lora"]),
        (
            {"seed": "1", "method.kind": "lori", "method.x": "3"},
            ["method.kind: got lori, wanted lora", "method.x: got 3, wanted nothing"],
        ),
    ],
)
def test_all_receive_the_differences_of_one(other, differences: list[str]) -> None:
    """Even where one who never comes is waited for."""
    for end in joined({0: TERMS, 1: TERMS, 2: other}, 4).values():
        assert isinstance(end, ScenarioError)
        assert [problem.split(": ", 1)[1] for problem in end.problems] == [
            f"{difference} as device 0 has" for difference in differences
        ]
        assert all(problem.startswith("device 2 on ") for problem in end.problems)
