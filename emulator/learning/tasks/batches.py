"""Batches of examples for training and for answering."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from emulator.core.rng import Stream
from emulator.core.types.arrays import IndexArray

Item = TypeVar("Item")

ANSWER_TOKENS = 8192
"""Most tokens of a batch of questions; this limits the memory for every model and input."""


def epochs(count: int, batch_size: int, stream: Stream, skip: int = 0) -> Iterator[IndexArray]:
    """Endless batches of indices below `count`; every epoch is a new permutation.

    A batch may contain the end of one epoch and the start of the next, so that all batches have the same
    size. skip: number of batches to leave out at the beginning, for a device that is restored.
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
    """Answer questions in batches of similar length, to have little padding; keep the questions' order.

    lengths: of each question [tokens]. A batch has at most ANSWER_TOKENS tokens with padding, or one
    question.
    """
    answers = [""] * len(questions)
    for batch in _group_by_length(lengths):
        for index, text in zip(batch, answer([questions[i] for i in batch]), strict=True):
            answers[index] = text
    return tuple(answers)


def _group_by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in batches, from the shortest question to the longest."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > ANSWER_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
