"""The trained entries of a device as one flat vector, with gradient and optimiser.

Shapes: N coordinates, n coordinates that learn.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import FloatArray
from emulator.core.types.steps import State


class TrainedVector:
    """The trained entries [N] of a layout and their gradient [N]; layers may hold views of both."""

    def __init__(self, layout: AdapterLayout, device: torch.device) -> None:
        """Set all entries to zero. Call `start_optimiser` before the first step."""
        self._layout = layout
        self._flat_N = torch.zeros(layout.size, device=device)
        self._grad_N = torch.zeros(layout.size, device=device)
        # Copies to and from a GPU are faster through pinned memory.
        self._pinned_N = (
            torch.empty(layout.size, pin_memory=True) if device.type == "cuda" else None
        )
        self._learning: Tensor | None = None

    def views(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Name, entries and gradient of every tensor in its shape, as views of this memory."""
        layout = self._layout
        for name, shape, low, size in zip(
            layout.names, layout.shapes, layout.offsets, layout.sizes, strict=False
        ):
            part = slice(low, low + size)
            yield name, self._flat_N[part].view(shape), self._grad_N[part].view(shape)

    def start_optimiser(self, learning_rate: float, learns: Mask) -> None:
        """Start a new AdamW over the entries of `learns`; its memory and time grow with n, not N."""
        device = self._flat_N.device
        self._learning = None if learns.is_full else torch.from_numpy(learns.indices).to(device)
        self.parameter = nn.Parameter(
            self._flat_N if self._learning is None else self._flat_N[self._learning].clone()
        )
        self.optimiser = torch.optim.AdamW([self.parameter], lr=learning_rate, weight_decay=0.0)

    def step(self, losses: Iterable[Tensor]) -> None:
        """Take one step along the gradient of the sum of losses; entries that do not learn keep their values."""
        self._grad_N.zero_()
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
        if self._learning is None:
            self.parameter.grad = self._grad_N
            self.optimiser.step()
            return
        self.parameter.grad = self._grad_N[self._learning]
        self.optimiser.step()
        with torch.no_grad():
            self._flat_N[self._learning] = self.parameter

    def vector(self) -> FloatArray:
        """The entries [N], copied."""
        here_N = self._flat_N if self._pinned_N is None else self._pinned_N.copy_(self._flat_N)
        copied: FloatArray = here_N.numpy().copy()
        return copied

    def load(self, vector_N: FloatArray) -> None:
        """Overwrite the entries; the optimiser keeps its moments."""
        with torch.no_grad():
            here_N = torch.from_numpy(vector_N)
            self._flat_N.copy_(here_N if self._pinned_N is None else self._pinned_N.copy_(here_N))
            if self._learning is not None:
                self.parameter.copy_(self._flat_N[self._learning])

    def state(self) -> State:
        """Entries and optimiser, copied."""
        moments = self.optimiser.state.get(self.parameter, {})
        return {
            "entries": self.vector(),
            "learning": None if self._learning is None else self._learning.cpu().numpy(),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "moments": {name: tensor.cpu().numpy().copy() for name, tensor in moments.items()},
        }

    def restore(self, state: State) -> None:
        """Restore a state of the same layout."""
        size, learning = self._layout.size, state["learning"]
        self.load(state["entries"])
        learns = Mask.full(size) if learning is None else Mask(size, learning)
        self.start_optimiser(state["learning_rate"], learns)
        if state["moments"]:
            self.optimiser.state[self.parameter] = {
                name: torch.from_numpy(values.copy()).to(
                    "cpu" if name == "step" else self._flat_N.device
                )
                for name, values in state["moments"].items()
            }

    def reset(self) -> None:
        """Set all entries to zero. Call `start_optimiser` before the next step."""
        self._flat_N.zero_()
