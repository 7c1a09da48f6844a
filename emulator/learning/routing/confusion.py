"""Evaluation of gates: shares of questions by chosen task, and detection of out-of-distribution questions.

Shapes: S questions, T tasks.
"""

from collections.abc import Sequence

import numpy as np

from emulator.core.types.arrays import DoubleArray, FloatArray

ABSTAINED = "abstained"
"""The destination of questions that no expert answers: the backbone alone answers them."""


def route_shares(gates_ST: FloatArray, task_names: Sequence[str]) -> dict[str, float]:
    """Shares of the questions by chosen task, with ABSTAINED; the shares sum to one.

    The chosen task has the largest gate (the first of equal ones). Empty if all gates of all questions
    are equal and positive, because then no task is chosen.
    """
    if gates_ST.min() == gates_ST.max() > 0:
        return {}
    abstained_S = ~gates_ST.any(axis=1)
    winner_S = np.where(abstained_S, len(task_names), gates_ST.argmax(axis=1))
    counts = np.bincount(winner_S, minlength=len(task_names) + 1)
    shares = (counts / len(gates_ST)).tolist()
    return dict(zip((*task_names, ABSTAINED), shares, strict=True))


def auroc(known_K: DoubleArray, unseen_U: DoubleArray) -> float:
    """Probability that a known question is more familiar than an unseen one; ties count half.

    This is the area under the ROC curve of a classifier by familiarity: 1 is perfect, 0.5 is chance.
    """
    sorted_U = np.sort(unseen_U)
    below = np.searchsorted(sorted_U, known_K, side="left").sum()
    not_above = np.searchsorted(sorted_U, known_K, side="right").sum()
    return float((below + not_above) / 2 / (len(known_K) * len(unseen_U)))
