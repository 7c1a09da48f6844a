"""What a task suite offers, and how a backbone learns from its examples."""

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
        """Which device holds what."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """All tasks, in the order in which devices take them."""
        ...

    def examples(self, task: str, split: str, seed: int) -> tuple[Example, ...]:
        """All examples of one task; split is `train`, `test` or `paraphrased`.

        `paraphrased` (test questions in words unseen in training, or none) and tasks beyond `names`
        are asked for only where `evaluation` does.
        """
        ...


class Learner(Protocol):
    """How a backbone family learns from examples and answers them. A batch is opaque to others."""

    def batches(
        self, shard: Shard, batch_size: int, stream: Stream, skip: int = 0
    ) -> Iterator[Any]:
        """Endless training batches of one shard without the first `skip`; each epoch is shuffled anew by
        the stream."""
        ...

    def parts(self, batch: Any, size: int) -> Iterator[tuple[Any, float]]:
        """A batch in parts of so many examples, each with its share in the loss of the whole."""
        ...

    def loss(self, model: Module, batch: Any) -> Tensor:
        """Mean training loss, shape ()."""
        ...

    def tokens(self, batch: Any) -> int:
        """Tokens that the model reads of a batch, padding aside."""
        ...

    def predict(self, model: Module, examples: Sequence[Example]) -> tuple[str, ...]:
        """The model's answer to each example."""
        ...

    def answer(self, model: Module, question: Example, max_new_tokens: int) -> str:
        """One answer: of the choices the best, without any what is generated."""
        ...

    def unread(self, question: Example, max_new_tokens: int) -> str:
        """Which part of a question is longer than the model's input, in words; empty: none."""
        ...

    def router_text(self, example: Example) -> str:
        """The input as the model sees it, choices included and the answer not."""
        ...
