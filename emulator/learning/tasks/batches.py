"""Which examples make a batch."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from emulator.core.rng import Stream
from emulator.core.types.arrays import IndexArray

Item = TypeVar("Item")

ANSWER_TOKENS = 8192
"""Most tokens of a batch that is answered: a bound to memory, whatever the model and its inputs."""


def epochs(count: int, batch_size: int, stream: Stream, skip: int = 0) -> Iterator[IndexArray]:
    """Endless batches of indices below `count`; every epoch is a new permutation.

    A batch may straddle two epochs, so that all batches have the same size. skip: batches that are left
    out at the beginning, for a device that goes on after an interruption.
    """
    pool = stream.permutation(count)
    for index in itertools.count():
        while len(pool) < batch_size:
            pool = np.concatenate([pool, stream.permutation(count)])
        if index >= skip:
            yield pool[:batch_size]
        pool = pool[batch_size:]


def answer_in_batches(
    questions: Sequence[Item],
    lengths: Sequence[int],
    answer: Callable[[Sequence[Item]], Sequence[str]],
) -> tuple[str, ...]:
    """Answers in the questions' order, asked for in batches of like length: little of it is padding.

    lengths: of each [tokens]; a batch has at most ANSWER_TOKENS, padding included, or one question.
    """
    answers = [""] * len(questions)
    for batch in _alike(lengths):
        for index, text in zip(batch, answer([questions[i] for i in batch]), strict=True):
            answers[index] = text
    return tuple(answers)


def _alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in batches, from the shortest to the longest."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > ANSWER_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
