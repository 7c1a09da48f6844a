"""What a launcher's environment is refused for, before anything is loaded."""

import subprocess
import sys

import pytest

from emulator.core.errors import ScenarioError
from emulator.runtime.launcher_env import find_local_devices, read_rendezvous_address


@pytest.mark.parametrize(
    ("port", "problem"),
    [
        ("99999", "MASTER_PORT: got 99999, wanted a port (1 to 65535)"),
        ("65536", "MASTER_PORT: got 65536, wanted a port (1 to 65535)"),
        ("0", "MASTER_PORT: got 0, wanted a port (1 to 65535)"),
        ("-1", "MASTER_PORT: got '-1', wanted a number"),
        ("http", "MASTER_PORT: got 'http', wanted a number"),
        ("", "MASTER_PORT: got '', wanted a number"),
        ("٢٩٥٠٠", "MASTER_PORT: got '٢٩٥٠٠', wanted a number"),
        ("9" * 30, f"MASTER_PORT: got '{'9' * 30}', wanted a number"),
    ],
)
def test_a_port_is_a_port(monkeypatch, port, problem) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", port)
    with pytest.raises(ScenarioError) as caught:
        read_rendezvous_address()
    assert caught.value.problems == (problem,)


def test_a_single_process_is_not_advised_what_is_refused() -> None:
    """A run has two devices or more."""
    with pytest.raises(ScenarioError) as caught:
        find_local_devices((0, 1), 4, None)
    (line,) = caught.value.problems
    assert "devices=1" not in line
    assert "--devices-per-host 4" in line
    assert find_local_devices((0, 1), 4, 4) == range(4)


def test_it_is_read_without_torch() -> None:
    code = "import sys, emulator.runtime.launcher_env; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
