"""A trial pass of a loaded model over a few tokens, so that a model that cannot work fails before training.

Shapes: S texts, T tokens, k inputs of a module.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from emulator.core.errors import ScenarioError
from emulator.learning.backbone.model_folder import shorten_message

TEXTS, TOKENS = 2, 3
"""S and T of the trial; they differ, so that a shape identifies them."""


def try_model(model: Any, family: str, targets: Sequence[str], name: str) -> None:
    """Run one forward pass, for a causal_lm a second one from the key-value cache. The model stays equal.

    Raises ScenarioError if a pass fails, and if an adapted module does not get every token as input.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with torch.inference_mode(), _record_shapes(model, targets, shapes):
            problem = _try_decoder(model) if family == "causal_lm" else _try_encoder(model)
    except Exception as error:  # an unknown architecture may raise anything
        problem = f"which fails on {TOKENS} tokens ({shorten_message(error)})"
    if problem:
        raise ScenarioError([f"backbone.name: got {name!r} as {family}, {problem}"])
    blind = [t for t in targets if shapes.get(t, ())[:-1] != (TEXTS, TOKENS)]
    if blind:
        raise ScenarioError(
            [
                f"backbone.target_modules: got modules of {name} that do not read every token of "
                f"a text ({', '.join(sorted({t.rsplit('.', 1)[-1] for t in blind}))}), wanted others"
            ]
        )


@contextmanager
def _record_shapes(
    model: nn.Module, targets: Sequence[str], shapes: dict[str, tuple[int, ...]]
) -> Iterator[None]:
    """Record the shape of the first input of each target in `shapes`."""

    def watch(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        def note(_module: Any, inputs: tuple[Tensor, ...]) -> None:
            shapes.setdefault(name, tuple(inputs[0].shape))

        return note

    handles = [model.get_submodule(t).register_forward_pre_hook(watch(t)) for t in targets]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _try_encoder(model: Any) -> str:
    """Run an encoder. Returns its problem in words; empty if there is none."""
    ids_ST = torch.zeros((TEXTS, TOKENS), dtype=torch.long)
    states = model(input_ids=ids_ST, attention_mask=torch.ones_like(ids_ST)).last_hidden_state
    return "" if states.shape[:2] == ids_ST.shape else "wanted one hidden state a token"


def _try_decoder(model: Any) -> str:
    """Run a decoder twice. Returns its problem in words; empty if there is none."""
    if not model.can_generate():
        return "which cannot generate, wanted a decoder"
    ids_ST = torch.zeros((TEXTS, TOKENS), dtype=torch.long)
    positions_ST = torch.arange(TOKENS).expand_as(ids_ST)
    read = model(
        input_ids=ids_ST,
        attention_mask=torch.ones_like(ids_ST),
        position_ids=positions_ST,
        use_cache=True,
    )
    cache = getattr(read, "past_key_values", None)
    if cache is None:
        return "which keeps no key-value cache, wanted a decoder with attention: answers are decoded with it"
    cache.batch_select_indices(torch.tensor([0, 0, 1]))
    model(
        input_ids=ids_ST[:1, :1].expand(3, 1),
        attention_mask=torch.ones((3, TOKENS + 1), dtype=torch.long),
        position_ids=torch.full((3, 1), TOKENS),
        past_key_values=cache,
    )
    return ""
