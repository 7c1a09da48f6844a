"""What a router offers.

Shapes: S sequences, T tokens, E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from emulator.core.protocols.backbone import LoadedBackbone
from emulator.core.types.arrays import DoubleArray, FloatArray
from emulator.core.types.data import Question

if TYPE_CHECKING:
    from torch import Tensor


ModuleExpert = tuple["Tensor", "Tensor", float]
"""One expert in one module: A [r, k], B [d, r], scaling."""

LayerGate = Callable[["Tensor", "Tensor"], "Tensor"]
"""The layer's input [S, T, k] and the sequences' gates [S, E] -> gates of every token [S, T, E]."""


class Router(Protocol):
    """Which expert answers: pure functions from the frozen backbone's reading of a text to gates.

    Features are opaque to others, one row per question. `fitted` is all that a fitted router is: it is
    stored as it stands and answers anywhere.
    """

    @property
    def kind(self) -> str:
        """The router's name in YAML."""
        ...

    def features(self, backbone: LoadedBackbone, questions: Sequence[Question], seed: int) -> Any:
        """What the router reads of questions, from the frozen backbone alone."""
        ...

    def statistics(
        self, features: Any, task_of: Sequence[int], num_tasks: int
    ) -> dict[str, FloatArray]:
        """What devices add up over their own prompts, by name; empty: nothing is sent."""
        ...

    def fit(
        self, statistics: Mapping[str, FloatArray], own_features: Any, num_tasks: int
    ) -> dict[str, FloatArray]:
        """The router of everybody's summed statistics; own training prompts set its threshold."""
        ...

    def gates(self, fitted: Mapping[str, FloatArray], features: Any) -> FloatArray:
        """[S, tasks], finite, none negative; a row of zeros abstains: the backbone answers alone."""
        ...

    def familiarity(self, fitted: Mapping[str, FloatArray], features: Any) -> DoubleArray:
        """How much each question is like a known task [S]; below the threshold it abstains."""
        ...

    def layer_gate(self, experts: Sequence[ModuleExpert]) -> LayerGate | None:
        """Gates made anew in every adapted module; None: the sequence's hold everywhere."""
        ...
