"""What the tests on several hosts share: the hosts."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from network import Network, RefusedError


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Four hosts, removed at the end whatever happens."""
    try:
        with Network() as built:
            yield built
    except RefusedError as reason:
        pytest.skip(f"no hosts on this machine: {reason}")
