"""The interfaces of a task suite, its partition, and the learner of a backbone family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from emulator.core.rng import Stream
from emulator.core.types.data import Example, Shard

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class Partition(Protocol):
    """Which device holds which training examples."""

    def shards(
        self, devices: int, examples: Mapping[str, Sequence[Example]], seed: int
    ) -> tuple[Shard, ...]:
        """One shard per device, disjoint."""
        ...


class TaskSuite(Protocol):
    """The tasks of a scenario: their names and their data."""

    @property
    def partition(self) -> Partition:
        """The partition of the training examples."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """All tasks, in the order in which they are assigned to devices."""
        ...

    def examples(self, task: str, split: str, seed: int) -> tuple[Example, ...]:
        """All examples of one task; split is `train`, `test` or `paraphrased`.

        `paraphrased` is the test questions in words unseen in training, or none. It is read, like tasks
        that are not in `names`, only if `evaluation` names them.
        """
        ...


class Learner(Protocol):
    """How a backbone family learns from examples and answers them. Only the learner reads a batch."""

    def batches(
        self, shard: Shard, batch_size: int, stream: Stream, skip: int = 0
    ) -> Iterator[Any]:
        """Endless training batches of one shard without the first `skip`.

        The stream shuffles every epoch anew.
        """
        ...

    def parts(self, batch: Any, size: int) -> Iterator[tuple[Any, float]]:
        """Parts of a batch with `size` examples, each with its share of the batch's loss."""
        ...

    def loss(self, model: Module, batch: Any) -> Tensor:
        """Mean training loss, shape ()."""
        ...

    def tokens(self, batch: Any) -> int:
        """Number of tokens of a batch without padding."""
        ...

    def predict(self, model: Module, examples: Sequence[Example]) -> tuple[str, ...]:
        """The model's answer to each example."""
        ...

    def answer(self, model: Module, question: Example, max_new_tokens: int) -> str:
        """One answer: the best of the choices, or generated text if there are no choices."""
        ...

    def unread(self, question: Example, max_new_tokens: int) -> str:
        """The part of a question that exceeds the model's input, in words; empty if there is none."""
        ...

    def router_text(self, example: Example) -> str:
        """The input of the model: with the choices, without the answer."""
        ...
