"""The interface of a router.

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
"""Maps a layer's input [S, T, k] and the sequences' gates [S, E] to gates of every token [S, T, E]."""


class Router(Protocol):
    """Pure functions from the frozen backbone's hidden states of a text to the gates of the experts.

    Features have one row per question; only the router knows their type. `fitted` holds the whole
    fitted router: it is stored as it is and can be used on any machine.
    """

    @property
    def kind(self) -> str:
        """The router's name in YAML."""
        ...

    def features(self, backbone: LoadedBackbone, questions: Sequence[Question], seed: int) -> Any:
        """The features of questions, computed with the frozen backbone alone."""
        ...

    def statistics(
        self, features: Any, task_of: Sequence[int], num_tasks: int
    ) -> dict[str, FloatArray]:
        """Sums over a device's own prompts, by name; the devices add them up. Empty: nothing is sent."""
        ...

    def fit(
        self, statistics: Mapping[str, FloatArray], own_features: Any, num_tasks: int
    ) -> dict[str, FloatArray]:
        """Fit the router to the sum of all devices' statistics; own prompts set its threshold."""
        ...

    def gates(self, fitted: Mapping[str, FloatArray], features: Any) -> FloatArray:
        """Gates [S, tasks], finite, none negative; columns in the order of `tasks.names`.

        A row of zeros abstains: the backbone answers alone.
        """
        ...

    def familiarity(self, fitted: Mapping[str, FloatArray], features: Any) -> DoubleArray:
        """How similar each question is to a known task [S]; below the threshold the router abstains."""
        ...

    def layer_gate(self, experts: Sequence[ModuleExpert]) -> LayerGate | None:
        """The gates of one adapted module; None: a sequence's gates apply in every module."""
        ...
