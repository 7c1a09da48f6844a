"""Rules of the house that no linter knows: read from the sources themselves."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "emulator").rglob("*.py"))
CODE = sorted([*SOURCES, *(ROOT / "tests").rglob("*.py")])

MOST_LINES = 400
MOST_MEMBERS = 7
OF_USERS = (
    *("my_method.py", "my_methods.py", "my_topology.py", "my_channel.py", "my_tasks.py"),
    *("my_router.py", "fill.py", "mine.py"),
)
"""Files that a text tells a user to write."""

DOORS = [
    "emulator/runtime/transport/gloo.py",
    "emulator/runtime/transport/nccl.py",
    "emulator/runtime/transport/process_group.py",
    "emulator/runtime/transport/store.py",
]
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
KEYED = {"Generator", "Philox"}
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> set[str]:
    """Full dotted names of all imports, wherever they stand."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def dotted(tree: ast.AST) -> set[str]:
    """All `a.b.c` that are read in a module."""
    found = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {text for text in found if re.fullmatch(r"[\w.]+", text)}


TREES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def offenders(offends) -> list[str]:
    return [name for name, tree in TREES.items() if offends(tree)]


def test_there_are_sources():
    assert {*DOORS, "emulator/core/rng.py"} <= set(TREES)


def test_one_door_to_torch_distributed():
    def talks(tree):
        names = imported(tree) | dotted(tree)
        return any(name.startswith("torch.distributed") for name in names)

    assert offenders(talks) == DOORS


def test_no_pickle():
    def pickles(tree):
        modules = {name.split(".")[0] for name in imported(tree)}
        return modules & PICKLES or dotted(tree) & {
            "torch.save",
            "torch.load",
            "np.save",
            "np.load",
        }

    assert offenders(pickles) == []


def test_no_draws_without_a_key():
    def draws(tree):
        names = imported(tree) | dotted(tree)
        return {
            name
            for name in names
            if name.split(".")[0] in {"random", "secrets"}
            or (re.match(r"(np|numpy)\.random\.", name) and name.split(".")[2] not in KEYED)
            or name in {"torch.rand", "torch.randn", "torch.randint", "torch.randperm"}
        }

    assert offenders(draws) == []


def test_generators_are_made_in_one_place():
    def makes(tree):
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        return any(
            ast.unparse(call.func).endswith(("random.Philox", "default_rng")) for call in calls
        )

    assert offenders(makes) == ["emulator/core/rng.py"]


@pytest.mark.parametrize("name", ["pickle", "random"])
def test_the_scan_sees_imports_inside_functions(name):
    tree = ast.parse(f"def f():\n    from {name} import x\n    import {name}.y")
    assert {name, f"{name}.x", f"{name}.y"} == imported(tree)


def test_no_file_has_a_vague_name():
    assert [name_of(path) for path in CODE if path.stem in VAGUE] == []


def test_every_file_is_short():
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    long = {name: lines for name, lines in lengths.items() if lines >= MOST_LINES}
    assert long == {}


def test_no_public_name_stands_twice():
    """A class or function that is found by its name is the only one of it."""
    places: dict[str, list[str]] = {}
    for name, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_each_part_of_a_devices_context_is_small():
    """What a method may use of its device: at most seven members in each part."""
    tree = TREES["emulator/core/protocols/context.py"]
    members = {
        node.name: sum(isinstance(each, ast.FunctionDef) for each in node.body)
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name != "DeviceContext"
    }
    assert len(members) == 6
    assert {name: count for name, count in members.items() if count > MOST_MEMBERS} == {}


def test_the_version_is_the_same_everywhere():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    (version,) = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f'\n__version__ = "{version}"\n' in (ROOT / "emulator/__init__.py").read_text("utf-8")
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_no_room_has_a_global_that_grows():
    """`global` and `nonlocal` names are state outside a value."""

    def grows(tree):
        return any(isinstance(node, ast.Global) for node in ast.walk(tree))

    assert offenders(grows) == []


def limits_of_its_own(tree: ast.AST) -> list[int]:
    """Lines on which a test gives up after a number of seconds, which a loaded machine may need."""
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        told = [word.value for word in call.keywords if word.arg in ("timeout", "timeout_s")]
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("wait", "communicate"):
            told += call.args
        found += [call.lineno for value in told if isinstance(value, ast.Constant)]
    return found


def test_how_long_tests_wait_stands_in_one_place():
    own = {
        name_of(path): lines
        for path in CODE
        if name_of(path).startswith("tests/")
        and (lines := limits_of_its_own(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert own == {}, "wanted LIMIT_S of tests/support/processes.py"


def test_a_limit_of_its_own_is_seen():
    text = "run(x, timeout=5)\np.wait(3.0)\np.communicate(timeout=LIMIT_S)\np.wait()"
    assert limits_of_its_own(ast.parse(text)) == [1, 2]


# ── text files ───────────────────────────────────────────────────────────────────────────────────


def tracked_texts() -> dict[str, str]:
    """What git tracks, where it can be read as text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout here: nothing tells which files are tracked")
    texts = {}
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file():
            data = path.read_bytes()
            if b"\0" not in data and path.suffix != ".safetensors":
                texts[name] = data.decode(encoding="utf-8")
    return texts


# Written so that they do not find themselves.
MACHINE_PATH = re.compile(
    r"(?<![\w.}])/(?:hom[e]|User[s]|roo[t]|wor[k]|mn[t]|scratc[h]|far[m]|tmp/w[t])/"
)
REGISTRY = re.compile(
    r"pypi\.or[g]|pythonhosted\.or[g]|index-ur[l]|artifactor[y]|download\.pytorch\.or[g]"
    r"|proxy\.golan[g]|registry\.npmj[s]|mirror[s]?\.[a-z]+\.[a-z]|HF_ENDPOIN[T]|simple-inde[x]"
)


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [(MACHINE_PATH, "paths that work on every machine"), (REGISTRY, "no registry's host")],
    ids=["machine paths", "registry hosts"],
)
def test_tracked_texts_know_no_machine(pattern, wanted):
    found = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in tracked_texts().items()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == [], f"wanted {wanted}"


SIBLING = re.compile(r"share[d]/(?:dat[a]|re[f])|[\"']share[d][\"'] */")
UPWARDS = re.compile(r"(?<![\w.])(?:\.\./)*\.\.(?![\w.])|/\.\.(?![\w.])")
FROM_THE_FILE = re.compile(
    r"__file__.*?\.parents\[(\d+)\]((?:\.parent)*)(?: */ *[\"']((?:\.\./)+))?"
)
MAY_LOOK_OUTSIDE = {
    ".ci/run": "where a folder of real text lies beside the checkout, its tests are run, too",
}


def steps_up(line: str) -> int:
    """How many folders above the file's own folder the paths in a line lead."""
    plain = [len(found[0].strip("/").split("/")) for found in UPWARDS.finditer(line)]
    from_the_file = [
        int(found[1]) + found[2].count(".parent") + (found[3] or "").count("..")
        for found in FROM_THE_FILE.finditer(line)
    ]
    return max([*plain, *from_the_file], default=0)


def leads_outside(name: str, line: str) -> bool:
    """Whether a line of a file names a path that is not in the repository."""
    return bool(SIBLING.search(line)) or steps_up(line) > name.count("/")


def test_nothing_reaches_outside_the_repository():
    found = {
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in tracked_texts().items()
        if name not in MAY_LOOK_OUTSIDE
        for number, line in enumerate(text.splitlines(), start=1)
        if leads_outside(name, line)
    }
    assert found == set()


@pytest.mark.parametrize(
    ("name", "line", "outside"),
    [
        ("configs/a.yaml", "folder: " + "../" * 2 + "data", True),
        ("configs/experiments/a.yaml", "folder: " + "../" * 2 + "data", False),
        ("configs/a.yaml", "folder: ../" + "share" + "d/data", True),
        ("launch/a.sh", 'cd "$(dirname "$0")/.."', False),
        ("a.sh", 'cd "$(dirname "$0")/.."', True),
        ("README.md", "rounds 1 ... 5, then `..` and more", True),
        ("README.md", "rounds 1 ... 5, x... and ...", False),
        ("tests/unit/a.py", "ROOT = Path(__file__)" + ".parents[2]", False),
        ("tests/unit/a.py", "ROOT = Path(__file" + "__).resolve().parents[3]", True),
        ("tests/unit/a.py", "ROOT = Path(__file__)" + ".parents[2]" + ".parent / 'x'", True),
        ("tests/unit/a.py", "ROOT = Path(__file__)" + '.parents[2] / "' + '../x"', True),
    ],
)
def test_what_leads_outside_is_found(name, line, outside):
    assert leads_outside(name, line) is outside


def test_stored_values_tell_where_they_come_from():
    files = sorted((ROOT / "tests" / "references").glob("*.json"))
    tables = [
        (file.name, name, table)
        for file in files
        for name, table in json.loads(file.read_text(encoding="utf-8")).items()
    ]
    assert len(tables) > 10
    for file, name, table in tables:
        assert table["rows"], (file, name)
        assert len(table["source"]) > 20, (file, name)
        assert len(table["computed"]) > 20, (file, name)


def test_the_patterns_find_what_they_are_for():
    slash = "/"
    assert MACHINE_PATH.search(f"data: {slash}home{slash}somebody/x")
    assert not MACHINE_PATH.search("../network/home/x")
    assert REGISTRY.search("https:" + 2 * slash + "pypi." + "org/simple")


# ── the checks themselves ────────────────────────────────────────────────────────────────────────


def test_files_of_a_users_own_in_the_checkout_are_not_linted(tmp_path):
    """Neither linted nor formatted: only the project's own folders."""
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    ours = {"emulator/a.py", "emulator/channel/a.py", "launch/a.py", "tests/unit/a.py"}
    for name in {"my_methods.py", "mine/a.py", "runs/emulator/a.py", *ours}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("import os\nx =  1\n", encoding="utf-8")
    for order in (["check", "--output-format", "concise"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *order, "--no-cache", "."]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        assert set(re.findall(r"[\w/]+\.py", done.stdout)) == ours


def documents():
    """The project's own texts, whatever lies in a checkout besides."""
    folders = ("configs", "docker", "emulator", "launch", "tests")
    return [*ROOT.glob("*.md"), *(p for name in folders for p in (ROOT / name).rglob("*.md"))]


def test_every_link_in_a_text_leads_somewhere():
    broken = []
    for text in documents():
        for target, anchor in re.findall(
            r"\]\(([^)#\s:]*)(?:#([\w-]*))?\)", text.read_text("utf-8")
        ):
            place = (text.parent / target) if target else text
            if not place.exists():
                broken.append(f"{name_of(text)}: {target}")
            elif anchor and anchor not in anchors(place.read_text("utf-8")):
                broken.append(f"{name_of(text)}: {target}#{anchor}")
    assert broken == []


def anchors(text):
    """What GitHub makes of the headings of a text."""
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_every_file_that_a_text_names_is_there():
    texts = [*SOURCES, *documents()]
    there = {path.relative_to(ROOT).as_posix() for path in CODE}
    missing = {
        f"{name_of(text)}: {named}"
        for text in texts
        for named in re.findall(r"[\w/]*[a-z]\w*\.py\b", text.read_text(encoding="utf-8"))
        if not any(f"/{path}".endswith(f"/{named}") for path in there)
    }
    # of a user's own, or of the examples that README's commands write
    assert {line for line in missing if not line.endswith(OF_USERS)} == set()
