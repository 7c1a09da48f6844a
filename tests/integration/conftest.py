"""What integration tests share."""

import pytest
from processes import free_port_of


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    return free_port_of(range(10000, 20000))


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nobody had started these tests under torchrun."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
