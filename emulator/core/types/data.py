"""Examples of tasks, and the training data of one device."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One example: a prompt and its answer.

    kind "choice": the answer is one of `choices`. "text": the answer is generated and compared as a
    whole. "number": the last number of the generated text is compared. `completion` is the training
    text of a generated answer (it may contain a worked solution).
    """

    task: str
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    completion: str = ""
    kind: str = "text"


@dataclass(frozen=True)
class Question:
    """The input of the router.

    text: the input of the model, without the answer. task: index of the true task, None if it is not a
    task of the scenario; only the oracle may use it.
    """

    text: str
    task: int | None


@dataclass(frozen=True)
class Shard:
    """The training data of one device; `task` is the task of most of its examples."""

    device: int
    task: str
    train: tuple[Example, ...]
