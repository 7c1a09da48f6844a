"""The documentation's commands run as they stand there, one after the other, in a checkout with a small quickstart.

What takes hours or needs a network is stood in for: installation, the tests, and experiments, which are planned only.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from guide import GUIDE
from processes import LIMIT_S

from emulator.scenario.schema import Scenario

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"(?:<!-- (?:example|recipe): (\S+) -->\n)?```(sh|python|yaml)\n(.*?)```", re.DOTALL
)
SMALL = {
    "rounds": 1,
    "local": {"steps": 12, "batch_size": 8},
}
SMALL_TASKS = {"train_samples": 60, "test_samples": 2}
ROW = '{"prompt": "x", "choices": ["a", "b"], "answer": "a"}\n'
NEEDS_NETWORK = "pip install"
IN_THE_CHECKOUT = "emulator", "configs", "launch", "tests/support"
PLAN_ONLY = f"""\
#!/usr/bin/env bash
[ "$1" = reproduce ] && set -- "$@" --dry-run
exec {sys.executable} -m emulator "$@"
"""
STAND_INS = {
    "launch/install.sh": "#!/usr/bin/env bash\n",
    "launch/test.sh": "#!/usr/bin/env bash\n",
    ".venv/bin/activate": "PATH=$PWD/.venv/bin:$PATH\n",
    ".venv/bin/python": f'#!/usr/bin/env bash\nexec {sys.executable} "$@"\n',
    ".venv/bin/emulator": PLAN_ONLY,
}


def blocks() -> list[tuple[str, str, str]]:
    """File name (of an example that has one), language and text of every block of code, in order."""
    return [(found[1] or "", found[2], found[3]) for found in BLOCK.finditer(GUIDE)]


def script() -> str:
    """All commands in order; each file that README shows is written where it is shown, Python is run."""
    parts = ["set -euo pipefail"]
    for name, language, text in blocks():
        if name:
            parts.append(f"cat > {name} <<'SHOWN'\n{text}SHOWN")
        elif language == "python":
            parts.append(f"python - <<'SHOWN'\n{text}SHOWN")
        elif language == "sh":
            parts.append("mv filled tasks\n" if NEEDS_NETWORK in text else text)
    return "\n".join(parts)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project's folders, with what is stood in for."""
    for name in IN_THE_CHECKOUT:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in STAND_INS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    quickstart = tmp_path / "configs" / "quickstart.yaml"
    scenario = yaml.safe_load(quickstart.read_text(encoding="utf-8"))
    scenario |= SMALL | {"tasks": scenario["tasks"] | SMALL_TASKS}
    quickstart.write_text(yaml.safe_dump(scenario), encoding="utf-8")
    suite = tmp_path / "configs" / "experiments" / "suites" / "real_text.yaml"
    for task in yaml.safe_load(suite.read_text(encoding="utf-8"))["tasks"]["tasks"]:
        (folder := tmp_path / "filled" / task["name"]).mkdir(parents=True)
        for split in ("train", "test"):
            (folder / f"{split}.jsonl").write_text(ROW * 300, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_every_command_runs_after_those_before_it(checkout: Path) -> None:
    ours = ("EMULATOR_", "PYTHONPATH", "RANK", "WORLD_SIZE")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    done = subprocess.run(
        ["bash", "-xc", script()],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in promised_folders():
        assert (checkout / name / "summary.json").is_file(), name


def promised_folders() -> set[str]:
    """Folders of runs that README says its commands write."""
    commands = "\n".join(text for _, language, text in blocks() if language == "sh")
    return set(re.findall(r"(?:# -> |--out )(runs/[\w-]+)(?:/:|/$|/ |\s)", commands, re.MULTILINE))


def test_every_run_that_is_read_was_written_by_the_quickstart_or_in_the_same_block() -> None:
    """So whoever has called launch/quickstart.sh can try each block on its own."""
    quickstart = (ROOT / "launch" / "quickstart.sh").read_text(encoding="utf-8")
    (prefix,) = re.findall(r"^runs=(\S+)$", quickstart, re.MULTILINE)
    of_quickstart = {prefix + name for name in re.findall(r'--out "\$runs(-\w+)"', quickstart)}
    assert of_quickstart == {"runs/quickstart-lora", "runs/quickstart-sparse_orthogonal"}
    read_elsewhere = []
    for _, language, text in blocks():
        written = set(of_quickstart)
        for line in text.splitlines() if language in ("sh", "python") else ():
            written |= set(re.findall(r"(?:# -> |--out )(runs/[\w-]+)", line))
            named = set(re.findall(r"runs/[\w-]+", line))
            assert named <= written, line
            read_elsewhere += named & of_quickstart
    assert len(read_elsewhere) >= 4


SCHEMA = Scenario.model_json_schema()
CHANNEL = SCHEMA["$defs"]["Wireless"]["properties"]
TASKS = SCHEMA["$defs"]["Synthetic"]["properties"]


def kinds_of(schema: Any) -> set[str]:
    """All kinds that a section may have, or a part of one that may also be null."""
    found = set(schema.get("discriminator", {}).get("mapping", ()))
    return found.union(*(kinds_of(each) for each in schema.get("anyOf", ())))


@pytest.mark.parametrize(
    ("section", "kinds"),
    [
        (name, kinds_of(SCHEMA["properties"][name]))
        for name in ("backbone", "tasks", "topology", "router")
    ]
    + [("tasks", kinds_of(TASKS["partition"]))]
    + [(part, found) for part, schema in CHANNEL.items() if (found := kinds_of(schema))],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_kind_stands_in_the_row_of_its_section(section: str, kinds: set[str]) -> None:
    rows = [line.split("|", 2)[1:] for line in GUIDE.splitlines() if line.startswith("| `")]
    (told,) = (rest for first, rest in rows if f"`{section}`" in first and "`" in rest)
    assert kinds
    assert {kind for kind in kinds if f"`{kind}`" not in told} == set()


def test_every_method_has_a_row_and_every_access_is_named() -> None:
    methods = kinds_of(SCHEMA["properties"]["method"])
    assert {
        kind for kind in methods if not re.search(rf"^\| `{kind}`", GUIDE, re.MULTILINE)
    } == set()
    (access,) = re.findall(r"`access\.kind`: (.*?)\n\n", GUIDE, re.DOTALL)
    kinds = kinds_of(SCHEMA["properties"]["access"])
    assert {kind for kind in kinds if f"`{kind}`" not in access} == set()
