"""The end of a command: problems are printed line by line, and the exit code gives their kind."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from emulator.core.errors import EmulatorError, LifeFailedError, ScenarioError
from emulator.core.failures import cause_of, is_from_outside
from emulator.core.validation_errors import explain_problem

TRACEBACK = "EMULATOR_TRACEBACK"
"""The environment variable that asks for tracebacks above the lines."""

NUMBERS_ON_HOST = ("LOCAL_RANK", "SLURM_LOCALID")
"""Variables in which torchrun and Slurm number the processes of a host; others start one per host."""


class Verbs(TyperGroup):
    """A group of commands that reports wrong arguments in one line."""

    def main(self, *args: Any, **settings: Any) -> NoReturn:
        """Run the command that the arguments select, and end the process with its exit code."""
        try:
            code = super().main(*args, **{**settings, "standalone_mode": False})
        except TyperException as wrong:
            text = wrong.format_message()
            asked_nothing = "\n" in text  # the whole help
            sys.stderr.write(f"{text}\n" if asked_nothing else f"error: {_problem(wrong)}\n")
            sys.exit(2)
        sys.exit(code)


def _problem(wrong: TyperException) -> str:
    """Return where, got and wanted; or the parser's message between the command and its help."""
    from pydantic import ValidationError

    checked, option = wrong.__cause__, getattr(wrong, "param", None)
    if isinstance(checked, ValidationError) and option is not None:
        return explain_problem(checked.errors()[0], option.opts[-1])[0]
    text = wrong.format_message().rstrip(".")
    context = getattr(wrong, "ctx", None)
    command = context.command_path if context else "emulator"
    return f"{command}: {text[:1].lower()}{text[1:]}; see {command} --help"


@dataclass
class Ending:
    """What an interrupted command leaves behind, and the scenario that its problems belong to."""

    what_is_there: str
    scenario: str = ""
    """Name of the scenario, for messages."""
    is_complete: bool = False
    """Whether all files are written."""

    def all_is_in(self, folder: Path) -> None:
        """Record that all files are written."""
        self.is_complete = True
        self.what_is_there = f"all files were written already, in {folder}"

    def located(self, problem: str) -> str:
        """Put the scenario's name before a problem that begins with a key of the scenario."""
        from emulator.scenario.schema import Scenario

        key = problem.partition(":")[0].partition(".")[0]
        known = self.scenario and key in Scenario.model_fields
        return f"{self.scenario}: {problem}" if known else problem


@contextmanager
def clear_messages(when_interrupted: str = "nothing was written") -> Iterator[Ending]:
    """Print errors as lines on standard error; exit with 2 (wrong input), 1 (failed) or 130 (interrupted)."""
    ending = Ending(when_interrupted)
    try:
        yield ending
    except ScenarioError as error:
        if _is_first_on_host():
            _show_traceback(error)
            sys.stderr.writelines(f"error: {ending.located(p)}\n" for p in error.problems)
        raise typer.Exit(2) from None
    except typer.Exit:
        raise
    except Exception as error:  # a user's own part may raise anything, wherever it is asked
        if isinstance(error, OSError) and not is_from_outside(error):
            raise  # standard output, perhaps: see output_told
        _show_traceback(error)
        sys.stderr.write(f"error: {cause_of(error)}{_more_of(error)}\n")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        if _is_first_on_host():
            sys.stderr.write(f"interrupted: {ending.what_is_there}\n")
        raise typer.Exit(130) from None


def _show_traceback(error: Exception) -> None:
    """Print the traceback on standard error, that of a child process included, if it was asked for."""
    if _is_traceback_asked():
        sys.stderr.write("".join(traceback.format_exception(error)))


def _more_of(error: Exception) -> str:
    """Return how to see the traceback of an error that has no message of its own."""
    has_message = isinstance(error, EmulatorError) and not isinstance(error, LifeFailedError)
    return "" if has_message or _is_traceback_asked() else f"; {TRACEBACK}=1 shows the traceback"


def _is_traceback_asked() -> bool:
    return os.environ.get(TRACEBACK, "0") not in ("", "0")


def _is_first_on_host() -> bool:
    """Return whether this process prints problems: the first of a host, as all find the same."""
    own = next((os.environ[name] for name in NUMBERS_ON_HOST if name in os.environ), "0")
    return own == "0"
