"""Four containers by docker/compose.yaml: an engine that answers, one project of containers on it.

Everything is asked of the command line; it is the same for Compose 1 and 2.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from processes import LIMIT_S

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker" / "compose.yaml"
SERVICES = tuple(f"device-{device}" for device in range(4))

ASKED_FOR = "EMULATOR_DOCKER_TEST"
"""Set to 1 it lets tests build the image and start containers."""

_ESTABLISHED, _STORE_PORT = "01", f"{29500:04X}"


class RefusedError(Exception):
    """This machine cannot run containers; the text gives the reason."""


def compose_command() -> tuple[str, ...]:
    """How Compose is called here. Raises RefusedError where it cannot be, or no engine answers."""
    if os.environ.get(ASKED_FOR) != "1":
        raise RefusedError(f"it builds an image of 1.5 GB: only with {ASKED_FOR}=1")
    if shutil.which("docker") is None or _called("docker", "info").returncode:
        raise RefusedError("no Docker engine answers")
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]) and not _called(*command, "version").returncode:
            return command
    raise RefusedError("neither docker compose nor docker-compose is here")


@dataclass(frozen=True)
class Project:
    """The four services under a name of their own, so that no other containers are meant."""

    command: tuple[str, ...]
    name: str
    settings: Mapping[str, str]
    """What compose.yaml takes from the environment."""

    def compose(self, *arguments: str, timeout_s: float = 2 * LIMIT_S) -> "Ended":
        """Call Compose; return its output and exit code."""
        started_s = time.monotonic()
        command = [*self.command, "-p", self.name, "-f", str(COMPOSE_FILE), *arguments]
        done = subprocess.run(
            command,
            env={**os.environ, **self.settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        return Ended(done.returncode, done.stdout, time.monotonic() - started_s)

    def container(self, service: str) -> str:
        """The id of a service's container, running or not."""
        found = _called(
            "docker", "ps", "--all", "--quiet",
            "--filter", f"label=com.docker.compose.project={self.name}",
            "--filter", f"label=com.docker.compose.service={service}",
        )  # fmt: skip
        return found.stdout.strip()

    def kill(self, service: str) -> None:
        """End a container at once."""
        assert not _called("docker", "kill", self.container(service)).returncode

    def await_exchange(self, service: str, timeout_s: float = LIMIT_S) -> None:
        """Return when a device has a connection to another that is none of the store's."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            table = _called(
                "docker", "exec", self.container(service), "cat", "/proc/net/tcp"
            ).stdout
            rows = [line.split()[1:4] for line in table.splitlines()[1:]]
            for local, peer, state in rows:
                ports = (local.split(":")[1], peer.split(":")[1])
                if state == _ESTABLISHED and _STORE_PORT not in ports:
                    return
            time.sleep(0.5)
        raise TimeoutError(
            f"{service} reached no peer within {timeout_s:g} s: {self.output(service)}"
        )

    def exit_codes(self, timeout_s: float = LIMIT_S) -> list[int]:
        """Wait for all containers to end."""
        ids = [self.container(service) for service in SERVICES]
        done = _called("docker", "wait", *ids, timeout_s=timeout_s)
        return [int(line) for line in done.stdout.split()]

    def output(self, service: str) -> str:
        """Return all output of a container."""
        done = _called("docker", "logs", self.container(service))
        return done.stdout + done.stderr

    def fetch(self, folder: str, to: Path) -> None:
        """Copy a folder of /runs out of the volume."""
        source = f"{self.container('device-0')}:/runs/{folder}"
        done = _called("docker", "cp", source, str(to))
        assert not done.returncode, done.stderr


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    took_s: float


def _called(*command: str, timeout_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
