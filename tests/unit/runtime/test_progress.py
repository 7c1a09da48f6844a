"""What is seen of a run while it runs."""

import io

import pytest
from rich.console import Console

from emulator.runtime import progress
from emulator.runtime.progress import ProgressView


class Clock:
    """Ten seconds pass between any two looks."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 10.0
        return self.now_s


def print_progress(monkeypatch: pytest.MonkeyPatch, **console: bool) -> list[str]:
    monkeypatch.setattr(progress.time, "monotonic", Clock())
    log = io.StringIO()
    with ProgressView(
        "run (2 devices, 4 rounds)", range(2), 4, Console(file=log, **console)
    ) as seen:
        for rounds_done in range(1, 5):
            for device in range(2):
                seen.update(device, rounds_done, 0.5, 1.0, 100)
    return log.getvalue().splitlines()


def test_a_log_learns_now_and_then_how_far_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = print_progress(monkeypatch)
    title = "run (2 devices, 4 rounds)"
    assert lines == [f"{title}: {done} of 4 rounds done by all" for done in (1, 3)]


def test_a_device_under_a_launcher_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert print_progress(monkeypatch, quiet=True) == []
