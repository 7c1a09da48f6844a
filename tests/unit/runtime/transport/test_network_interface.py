"""Gloo listens where the others can reach it."""

import os

import pytest

from emulator.runtime.transport.network_interface import VARIABLE, use_interface_towards


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No interface is named; what the test leaves in the environment is taken back."""
    monkeypatch.setenv(VARIABLE, "")
    del os.environ[VARIABLE]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.usefixtures("unnamed")
def test_a_local_store_is_reached_over_loopback(host: str) -> None:
    use_interface_towards(host)
    assert os.environ[VARIABLE].startswith("lo")


def test_an_interface_that_was_named_is_kept(monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "wlan7")
    use_interface_towards("localhost")
    assert os.environ[VARIABLE] == "wlan7"


@pytest.mark.usefixtures("unnamed")
def test_an_unknown_host_leaves_it_to_gloo() -> None:
    use_interface_towards("no-such-host.invalid")
    assert VARIABLE not in os.environ
