"""All examples that somebody asks a task suite for, and all that is wrong with them, in one go."""

from collections.abc import Iterable

from emulator.core.errors import OutOfReachError, ScenarioError, raise_together
from emulator.core.protocols.tasks import TaskSuite
from emulator.core.types.data import Example

Examples = dict[tuple[str, str], tuple[Example, ...]]
"""By task and split."""


def read_all(suite: TaskSuite, asked: Iterable[tuple[str, str]], seed: int) -> Examples:
    """The examples of tasks and splits.

    Raises one ScenarioError with the problems of all of them; what is out of reach is asked for once,
    because the rest is as far away and every try takes its time.
    """
    found: Examples = {}
    errors: list[ScenarioError] = []
    for task, split in asked:
        try:
            found[task, split] = suite.examples(task, split, seed)
        except ScenarioError as error:
            errors.append(error)
            if isinstance(error, OutOfReachError):
                break
    raise_together(errors)
    return found
