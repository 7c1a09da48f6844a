"""Reading several splits of a task suite, with one error for all their problems."""

from collections.abc import Iterable

from emulator.core.errors import OutOfReachError, ScenarioError, raise_together
from emulator.core.protocols.tasks import TaskSuite
from emulator.core.types.data import Example

Examples = dict[tuple[str, str], tuple[Example, ...]]
"""By task and split."""


def read_all(suite: TaskSuite, asked: Iterable[tuple[str, str]], seed: int) -> Examples:
    """Read the examples of tasks and splits.

    Raises one ScenarioError with all problems. It stops at the first data that cannot be reached, because
    each further attempt would also fail, after a long time.
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
