"""Problems that pydantic finds, as messages: where, got, wanted. Every check uses the same wording."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from emulator.core.errors import did_you_mean, shown, wanted_by

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_NAMED_PATH = re.compile(r"^[\w.]+: got ")
"""Matches a text that already names the place of the problem inside its section."""


def explain_problem(
    problem: "ErrorDetails", where: str, *, known: Sequence[str] = (), wanted: str = ""
) -> list[str]:
    """One problem as lines that begin with `where`: a key or an option; empty for the whole value.

    known: the valid keys (for an unknown key) or kinds (for an unknown kind). wanted: the value that
    was wanted, if the caller knows more than pydantic reports.
    """
    kind, got = problem["type"], problem["input"]
    place = f"{where}: " if where else ""
    if kind == "value_error":
        return _place_lines(str(problem["ctx"]["error"]), where, got)
    if kind == "extra_forbidden":
        hint = did_you_mean(str(problem["loc"][-1]), known)
        listed = wanted or ("" if hint else f"one of {', '.join(known)}")
        return [f"{place}got an unknown key{listed and f', wanted {listed}'}{hint}"]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tags = known or re.findall(r"'(.+?)'", problem["ctx"].get("expected_tags", ""))
        if tags:
            tag = got.get("kind", "nothing") if isinstance(got, dict) else got
            listed = wanted or f"one of {', '.join(tags)}"
            hint = did_you_mean(str(tag), tags)
            return [f"{where}.kind: got {tag!r}, wanted {listed}{hint}"]
    found = "nothing" if kind == "missing" else shown(got)
    return [f"{place}got {found}, wanted {wanted or wanted_by(problem)}"]


def _place_lines(text: str, where: str, got: object) -> list[str]:
    """The message of one of the emulator's own checks, each line after the place of the problem."""
    lines = text.splitlines()
    if not where:
        return lines
    if _NAMED_PATH.match(text):
        return [f"{where}.{line}" for line in lines]
    if text.startswith("got "):
        return [f"{where}: {line}" for line in lines]
    return [f"{where}: got {shown(got)}: {text}"]
