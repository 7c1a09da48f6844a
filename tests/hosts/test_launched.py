"""Eight devices on four hosts, by launch/torchrun_hosts.sh on each, write the files of one process.

The environment does not set the interface of gloo.
"""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "support")]

from network import STORE_PORT, Network, finish  # noqa: E402
from processes import LIMIT_S  # noqa: E402
from written import files_of  # noqa: E402

ROOT = HERE.parents[1]

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ROOT / ".venv" / "installed-dev").is_file(),
        reason="launch/install.sh dev has not run here: the script would, for minutes",
    ),
]

SCENARIO = """\
name: launched
devices: 8
rounds: 1
tasks: {kind: synthetic, names: [reverse, sort], train_samples: 20, test_samples: 1}
method: {kind: lora}
topology: {kind: ring}
local: {steps: 1}
"""


def test_eight_devices_on_four_hosts_write_the_files_of_one_process(
    network: Network, tmp_path: Path
) -> None:
    scenario = tmp_path / "launched.yaml"
    scenario.write_text(SCENARIO)
    order = [str(scenario), "--quiet", "--out"]
    script = [str(ROOT / "launch" / "torchrun_hosts.sh"), *order, str(tmp_path / "hosts")]
    shared = {"HOSTS": "4", "MASTER_ADDR": network.hosts[0].address, "MASTER_PORT": str(STORE_PORT)}
    try:
        started = [
            host.start(script, {**shared, "HOST_RANK": str(number)}, tmp_path / f"{number}.log")
            for number, host in enumerate(network.hosts)
        ]
        alone = [sys.executable, "-m", "emulator", "run", *order, str(tmp_path / "one")]
        subprocess.run([*alone, "--driver", "one_process"], cwd=ROOT, check=True, timeout=LIMIT_S)
        finish(started, timeout_s=LIMIT_S)
    finally:
        network.end_processes()
    assert files_of(tmp_path / "hosts") == files_of(tmp_path / "one")
