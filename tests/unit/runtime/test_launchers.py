"""Which devices a launched process is, or forks."""

from pathlib import Path

import pytest

from emulator.core.errors import ScenarioError
from emulator.runtime.launcher_env import find_local_devices
from emulator.runtime.launchers import collect_terms
from emulator.scenario.load import read_scenario


def test_without_a_launcher_all_devices_are_here() -> None:
    assert find_local_devices(None, 5, None) == range(5)


@pytest.mark.parametrize("per_process", [None, 1, 2, 3, 7])
def test_processes_share_all_devices_in_order(per_process: int | None) -> None:
    processes = -(-7 // (per_process or 1))
    shares = [find_local_devices((rank, processes), 7, per_process) for rank in range(processes)]
    assert [device for share in shares for device in share] == list(range(7))
    assert all(len(share) == (per_process or 1) for share in shares[:-1])


@pytest.mark.parametrize(
    ("place", "devices", "per_host", "problem"),
    [
        (None, 4, 2, "--devices-per-host: got 2 without a launcher, wanted RANK and WORLD_SIZE"),
        ((0, 3), 4, None, "WORLD_SIZE: got 3 processes, wanted 4: one per device"),
        ((0, 2), 4, 1, "WORLD_SIZE: got 2 hosts, wanted 4: 4 devices, --devices-per-host 1"),
        ((0, 3), 4, 2, "WORLD_SIZE: got 3 hosts, wanted 2: 4 devices, --devices-per-host 2"),
    ],
)
def test_counts_that_do_not_fit_are_reported(place, devices, per_host, problem) -> None:
    with pytest.raises(ScenarioError, match=problem):
        find_local_devices(place, devices, per_host)


def terms_in(folder: Path, *overrides: str) -> dict[str, str]:
    (folder / "s.yaml").write_text("name: s\ndevices: 2\ntasks: {kind: synthetic, names: [sort]}\n")
    return collect_terms(read_scenario(folder / "s.yaml", overrides).scenario, 2, None)


def test_terms_name_every_value(tmp_path: Path) -> None:
    terms = terms_in(tmp_path)
    assert terms["--devices-per-host"] == terms["devices"] == "2"
    assert terms["tasks.names"] == '["sort"]'
    changed = terms_in(tmp_path, "method.density=0.3", "seed=4")
    assert {name for name in terms if terms[name] != changed[name]} == {"method.density", "seed"}


def test_terms_leave_out_where_files_lie(tmp_path: Path) -> None:
    """A host may have them elsewhere; what they are called is a term."""
    tasks = "tasks={kind: jsonl, folder: texts, names: [trec]}"
    terms = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        terms.append(terms_in(tmp_path / name, tasks))
    assert terms[0] == terms[1]
    assert terms[0]["tasks.folder"] == "texts"
