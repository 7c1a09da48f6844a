"""What gates say about a router: where questions went, and whether it knows what it does not know.

Shapes: S questions, T tasks.
"""

from collections.abc import Sequence

import numpy as np

from emulator.core.types.arrays import DoubleArray, FloatArray

ABSTAINED = "abstained"
"""Where a question goes that no expert answers: to the backbone alone."""


def routes(gates_ST: FloatArray, task_names: Sequence[str]) -> dict[str, float]:
    """Shares of the questions by the task they go to, and by ABSTAINED; together they are one.

    A question goes to the task of its largest gate (of equal ones to the first). Empty where every
    gate is equally open: that is no route.
    """
    if gates_ST.min() == gates_ST.max() > 0:
        return {}
    abstained_S = ~gates_ST.any(axis=1)
    winner_S = np.where(abstained_S, len(task_names), gates_ST.argmax(axis=1))
    counts = np.bincount(winner_S, minlength=len(task_names) + 1)
    shares = (counts / len(gates_ST)).tolist()
    return dict(zip((*task_names, ABSTAINED), shares, strict=True))


def auroc(known_K: DoubleArray, unseen_U: DoubleArray) -> float:
    """How likely a known question is more familiar than an unseen one, ties counted half.

    The area under the ROC curve of telling them apart by familiarity: 1 perfect, 0.5 a coin.
    """
    sorted_U = np.sort(unseen_U)
    below = np.searchsorted(sorted_U, known_K, side="left").sum()
    not_above = np.searchsorted(sorted_U, known_K, side="right").sum()
    return float((below + not_above) / 2 / (len(known_K) * len(unseen_U)))
