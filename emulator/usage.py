"""Wrong use of the command line, told like all wrong input: one line, exit code 2."""

import sys
from typing import Any, NoReturn

from typer.core import TyperGroup
from typer.exceptions import TyperException

from emulator.errors import wanted_by


class Verbs(TyperGroup):
    """A group of commands that tells in one line what is wrong with its arguments."""

    def main(self, *args: Any, **settings: Any) -> NoReturn:
        """Run the command that the arguments name, and end the process with its exit code."""
        try:
            code = super().main(*args, **{**settings, "standalone_mode": False})
        except TyperException as wrong:
            text = wrong.format_message()
            asked_nothing = "\n" in text  # the whole help
            sys.stderr.write(f"{text}\n" if asked_nothing else f"error: {_problem(wrong)}\n")
            sys.exit(2)
        sys.exit(code)


def _problem(wrong: TyperException) -> str:
    """Where, got, wanted; or what the parser says, behind the command and before its help."""
    from pydantic import ValidationError

    checked, option = wrong.__cause__, getattr(wrong, "param", None)
    if isinstance(checked, ValidationError) and option is not None:
        found = checked.errors()[0]
        wanted = wanted_by(found).replace("greater than or equal to", "at least")
        return f"{option.opts[-1]}: got {found['input']!r}, wanted {wanted}"
    text = wrong.format_message().rstrip(".")
    context = getattr(wrong, "ctx", None)
    command = context.command_path if context else "emulator"
    return f"{command}: {text[:1].lower()}{text[1:]}; see {command} --help"
