"""What emulator/ imports is what pyproject.toml declares."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPTIONAL = {"datasets"}
"""Distributions of extras, which may be missing here; each is imported where it is used."""


def normal(name: str) -> str:
    """The name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_modules() -> set[str]:
    """The top-level modules that emulator/ imports, without those of Python and its own."""
    found: set[str] = set()
    for path in (ROOT / "emulator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"emulator"}


def declared() -> set[str]:
    """The distributions that an installation brings, with all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    return {
        normal(re.split(r"[<>=!~\[ ]", each)[0]) for each in [*project["dependencies"], *extras]
    }


def test_every_import_is_declared_and_every_declaration_is_imported() -> None:
    known = packages_distributions()
    needed = set()
    for module in imported_modules():
        sources = {normal(name) for name in known.get(module, [])} or {module} & OPTIONAL
        assert len(sources) == 1, f"{module}: {sources}"
        needed |= sources
    assert needed == declared()
