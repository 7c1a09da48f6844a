"""A control without hidden states: the most likely task by token counts.

If it is as good as a router on hidden states, the words alone determine the tasks of a suite.
Shapes: S questions, T tasks, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from emulator.core.protocols.backbone import LoadedBackbone
from emulator.core.types.arrays import DoubleArray, FloatArray
from emulator.core.types.data import Question
from emulator.learning.routing.scored_router import Scored

SMOOTHING = 0.1
"""Pseudo-count of every token in every task."""


class BagOfWords(Scored):
    """Multinomial naive Bayes over the tokenizer's tokens, with equal prior probabilities of all tasks.

    score_j = sum over tokens of log p_j(token). The statistics are counts by task and token.
    Familiarity is the largest score per token.
    """

    kind: Literal["bag_of_words"] = "bag_of_words"

    def features(
        self, backbone: LoadedBackbone, questions: Sequence[Question], seed: int
    ) -> csr_array:
        """Number of occurrences of each token [S, V], sparse."""
        tokens = backbone.tokenize([q.text for q in questions])
        row, column = tokens["attention_mask"].nonzero(as_tuple=True)
        ids = tokens["input_ids"][row, column].cpu().numpy()
        ones, shape = np.ones(len(ids)), (len(questions), len(backbone.tokenizer))
        return csr_array((ones, (row.cpu().numpy(), ids)), shape=shape)

    def statistics(
        self, features: csr_array, task_of: Sequence[int], num_tasks: int
    ) -> dict[str, FloatArray]:
        """token_counts [T, V]."""
        columns = np.arange(len(task_of))
        belongs_TS = csr_array(
            (np.ones(len(task_of)), (np.asarray(task_of), columns)), shape=(num_tasks, len(task_of))
        )
        return {"token_counts": (belongs_TS @ features).toarray().astype(np.float32)}

    def fit(
        self, statistics: Mapping[str, FloatArray], own_features: csr_array, num_tasks: int
    ) -> dict[str, FloatArray]:
        """counts [T] of tokens, log_p [T, V], threshold [1]. Raises ValueError if there are no tokens."""
        counts_T = statistics["token_counts"].sum(axis=1, dtype=np.float64)
        if not counts_T.any():
            raise ValueError("router statistics: got no tokens, wanted some of every task")
        smoothed_TV = statistics["token_counts"] + np.float64(SMOOTHING)
        log_p_TV = np.log(smoothed_TV / smoothed_TV.sum(axis=1, keepdims=True))
        fitted = {"counts": counts_T.astype(np.float32), "log_p": log_p_TV.astype(np.float32)}
        return {**fitted, "threshold": self.threshold(self.familiarity(fitted, own_features))}

    def gates(self, fitted: Mapping[str, FloatArray], features: csr_array) -> FloatArray:
        """[S, T] float32; rows sum to one, or to zero below the threshold."""
        return self.open(
            _scores(fitted, features), self.familiarity(fitted, features), fitted["threshold"]
        )

    def familiarity(self, fitted: Mapping[str, FloatArray], features: csr_array) -> DoubleArray:
        """The largest mean log-likelihood of a question's tokens [S]."""
        best_S = _scores(fitted, features).max(axis=1)
        per_token: DoubleArray = best_S / np.maximum(features.sum(axis=1), 1.0)
        return per_token


def _scores(fitted: Mapping[str, FloatArray], features_SV: csr_array) -> DoubleArray:
    """[S, T]; -inf for a task without tokens."""
    scores_ST: DoubleArray = features_SV @ fitted["log_p"].T.astype(np.float64)
    scores_ST[:, fitted["counts"] == 0] = -np.inf
    return scores_ST
