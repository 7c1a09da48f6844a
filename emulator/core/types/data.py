"""Examples of tasks, and the share of one device."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One item: a prompt and its answer.

    kind "choice": the answer is one of `choices`. "text": the answer is generated and compared whole.
    "number": the last number of what is generated is compared. `completion` is the text to learn
    from where the answer is generated (it may hold a worked solution).
    """

    task: str
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    completion: str = ""
    kind: str = "text"


@dataclass(frozen=True)
class Question:
    """An input as the router sees it.

    text: what the model reads, the answer not. task: index of its true task, None where it is none of
    the scenario's; only the oracle may look at it.
    """

    text: str
    task: int | None


@dataclass(frozen=True)
class Shard:
    """A device's own training data; `task` is the one most of it belongs to."""

    device: int
    task: str
    train: tuple[Example, ...]
