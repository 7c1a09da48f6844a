"""Checks that a loaded model, its tokenizer and the scenario fit together."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from emulator.core.errors import ScenarioError, did_you_mean
from emulator.learning.linear_layers import is_linear


def check_tokens(tokenizer: Any, model: Any, family: str, name: str) -> None:
    """Raise ScenarioError if the tokenizer lacks a special token, or if a token has no embedding."""
    if family == "causal_lm" and tokenizer.eos_token_id is None:
        raise ScenarioError(
            [
                f"backbone.name: got {name!r}, whose tokenizer has no end token (eos_token), wanted "
                "one: a causal_lm needs it to mark the end of an answer"
            ]
        )
    if tokenizer.pad_token_id is None:
        raise ScenarioError(
            [
                f"backbone.name: got {name!r}, whose tokenizer has no padding token (pad_token), "
                "wanted one"
            ]
        )
    embeddings = len(model.get_input_embeddings().weight)
    outside = {token: i for token, i in tokenizer.get_vocab().items() if i >= embeddings}
    if outside:
        token = min(outside, key=outside.__getitem__)
        raise ScenarioError(
            [
                f"backbone.name: got {name!r}, with {embeddings} embeddings for the token ids of a "
                f"tokenizer that go up to {max(outside.values())} (the first without one is "
                f"{token!r}, {outside[token]}), wanted one for each"
            ]
        )


def check_positions(model: Any, max_tokens: int, name: str) -> None:
    """Raise ScenarioError if `max_tokens` exceeds the number of positions of the model."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:  # no limit, or another name for it
        return
    for module_name, module in model.named_modules():
        counts_from_padding = (
            module_name.endswith("position_embeddings")
            and isinstance(module, nn.Embedding)
            and module.padding_idx is not None
        )
        if counts_from_padding:  # RoBERTa: the first text position is padding_idx + 1
            limit = min(limit, module.num_embeddings - module.padding_idx - 1)
    if max_tokens > limit:
        raise ScenarioError(
            [f"backbone.max_tokens: got {max_tokens}, wanted at most {limit} (positions of {name})"]
        )


def find_adapted_modules(model: nn.Module, suffixes: Sequence[str], name: str) -> tuple[str, ...]:
    """Find the full names of the linear layers with these suffixes, in the model's order.

    Raises ScenarioError if any suffix has no linear layer.
    """
    modules = dict(model.named_modules())
    ends_in = {s: [n for n in modules if n == s or n.endswith(f".{s}")] for s in suffixes}
    linear = {n for n, module in modules.items() if is_linear(module)}
    wrong = [suffix for suffix, names in ends_in.items() if linear.isdisjoint(names)]
    if wrong:
        known = sorted({n.rsplit(".", 1)[-1] for n in linear})
        kinds = [
            f"; {s} is of type {type(modules[ends_in[s][0]]).__name__}" for s in wrong if ends_in[s]
        ]
        meant = "".join(did_you_mean(s, known) for s in wrong if not ends_in[s])
        raise ScenarioError(
            [
                f"backbone.target_modules: got {wrong}, wanted suffixes of linear modules of "
                f"{name} (it has {', '.join(known)}){''.join(kinds)}{meant}"
            ]
        )
    chosen = {n for names in ends_in.values() for n in names} & linear
    return tuple(n for n in modules if n in chosen)
