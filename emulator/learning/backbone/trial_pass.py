"""A freshly loaded model reads a few tokens, as training and answering will: what cannot work fails here.

Shapes: S texts, T tokens, k inputs of a module.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from emulator.core.errors import ScenarioError
from emulator.learning.backbone.model_folder import cause_of

TEXTS, TOKENS = 2, 3
"""S and T of the trial: different, so that a shape tells them apart."""


def try_out(model: Any, family: str, targets: Sequence[str], name: str) -> None:
    """Read, and for a causal_lm go on from the key-value cache. Changes nothing in the model.

    Raises ScenarioError for a model that cannot, and for adapted modules that do not see every token.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with torch.inference_mode(), _watched(model, targets, shapes):
            problem = _reads_on(model) if family == "causal_lm" else _reads(model)
    except Exception as error:  # whatever an unknown architecture raises
        problem = f"which fails on {TOKENS} tokens ({cause_of(error)})"
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
def _watched(
    model: nn.Module, targets: Sequence[str], shapes: dict[str, tuple[int, ...]]
) -> Iterator[None]:
    """Note the shape of the first input of each target."""

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


def _reads(model: Any) -> str:
    """What is wrong with an encoder, in words; empty where nothing is."""
    ids_ST = torch.zeros((TEXTS, TOKENS), dtype=torch.long)
    states = model(input_ids=ids_ST, attention_mask=torch.ones_like(ids_ST)).last_hidden_state
    return "" if states.shape[:2] == ids_ST.shape else "wanted one hidden state a token"


def _reads_on(model: Any) -> str:
    """What is wrong with a decoder, in words; empty where nothing is."""
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
        return (
            "which keeps no key-value cache, wanted a decoder with attention: answers go on from it"
        )
    cache.batch_select_indices(torch.tensor([0, 0, 1]))
    model(
        input_ids=ids_ST[:1, :1].expand(3, 1),
        attention_mask=torch.ones((3, TOKENS + 1), dtype=torch.long),
        position_ids=torch.full((3, 1), TOKENS),
        past_key_values=cache,
    )
    return ""
