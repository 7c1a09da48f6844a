"""The frozen backbone: the embedded tiny one, or any Hugging Face model by hub id or local folder.

Shapes: S texts, T tokens, H hidden width.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from torch import Tensor, nn

from emulator.core.errors import ScenarioError
from emulator.core.places import is_folder
from emulator.learning.backbone.model_folder import INSTEAD, open_model, outline_model
from emulator.learning.backbone.tokenizer_checks import (
    check_positions,
    check_tokens,
    find_adapted_modules,
)
from emulator.learning.backbone.trial_pass import try_model
from emulator.learning.linear_layers import weight_of

Shapes = tuple[tuple[int, int], ...]
"""Outputs d and inputs k of each module."""

STATES_BATCH = 64
"""Texts per forward pass of the frozen model without training."""

FEWEST_TOKENS = 3
"""Least tokens of an input: one each of prompt, answer and end, or of a text and an encoder's two own."""

CAUSAL_LM_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ENCODER_MODULES = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


TINY_FOLDER = Path(__file__).parent / "tiny" / "weights"


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen model in eval mode with its tokenizer; see `protocols.LoadedBackbone`."""

    model: nn.Module
    tokenizer: Any
    family: str
    name: str
    target_modules: tuple[str, ...]
    max_tokens: int

    @property
    def device(self) -> torch.device:
        """The torch device of the weights; inputs must be on the same device."""
        return next(self.model.parameters()).device

    @property
    def shapes_dk(self) -> Shapes:
        """Outputs d and inputs k of each adapted module."""
        return _shapes_dk(self.model, self.target_modules)

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Tokenise texts: input_ids and attention_mask [S, T], padded on the right, cut after max_tokens."""
        encoded = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
            padding_side="right",
        )
        return {name: encoded[name].to(self.device) for name in ("input_ids", "attention_mask")}

    def read(self, texts: Sequence[str]) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Forward passes of the frozen model: (attention_mask [S, T], hidden states of shape [S, T, H])."""
        for start in range(0, len(texts), STATES_BATCH):
            tokens = self.tokenize(texts[start : start + STATES_BATCH])
            with torch.inference_mode():  # without the output layer: its logits need much memory
                output = self.model.base_model(  # type: ignore[operator]
                    **tokens, output_hidden_states=True
                )
            yield tokens["attention_mask"], output.hidden_states

    def prompt_states(self, texts: Sequence[str], layer: int | None) -> Tensor:
        """Mean hidden state of each text over its tokens at a layer [S, H] float32.

        Layer 0 is the embeddings, None the middle layer.
        """
        means = []
        for mask_ST, hidden in self.read(texts):
            if layer is not None and not -len(hidden) <= layer < len(hidden):
                raise ScenarioError(
                    [
                        f"router.gate_layer: got {layer}, wanted 0 ... {len(hidden) - 1} "
                        f"(the hidden states of {self.name})"
                    ]
                )
            states_STH = hidden[len(hidden) // 2 if layer is None else layer]
            weight_ST1 = mask_ST.unsqueeze(-1).to(states_STH.dtype)
            means.append((states_STH * weight_ST1).sum(1) / weight_ST1.sum(1))
        return torch.cat(means).float().cpu()


class Tiny(BaseModel):
    """The causal language model inside the package: no download, a few milliseconds a step."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["tiny"] = "tiny"

    def shapes_dk(self) -> Shapes:
        """Outputs d and inputs k of each adapted module, read from the header of the weights file.

        The model is not built for this, because the import of its class takes seconds.
        """
        ends = tuple(f"{suffix}.weight" for suffix in CAUSAL_LM_MODULES)
        with safe_open(TINY_FOLDER / "model.safetensors", framework="np") as weights:
            names = [name for name in weights.offset_keys() if name.endswith(ends)]
            shapes = [weights.get_slice(name).get_shape() for name in names]
        return tuple((d, k) for d, k in shapes)

    def load(self) -> Backbone:
        """Read the embedded weights."""
        return _load(
            str(TINY_FOLDER),
            "causal_lm",
            "package:emulator/learning/backbone/tiny/weights",
            64,
            CAUSAL_LM_MODULES,
            "float32",
        )


class _HuggingFace(BaseModel):
    """The fields that both kinds of Hugging Face backbones have."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(
        description="hub id, local folder, or package:NAME/FOLDER inside an installed package"
    )
    max_tokens: int = Field(
        default=256,
        ge=FEWEST_TOKENS,
        description="longest input, longer ones are cut [tokens]; at most the model's positions",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="type of the frozen weights"
    )


class CausalLM(_HuggingFace):
    """Any causal language model; choices are scored by likelihood, other answers generated."""

    kind: Literal["causal_lm"] = "causal_lm"
    target_modules: tuple[str, ...] = Field(
        default=CAUSAL_LM_MODULES, description="suffixes of the adapted linear modules"
    )

    def shapes_dk(self) -> Shapes:
        """As of the tiny model, from config.json alone; empty for a hub id, which may be out of reach."""
        return _outline_shapes(
            _resolve_folder(self.name), "causal_lm", self.name, self.target_modules
        )

    def load(self) -> Backbone:
        """Read the weights from the folder or the hub."""
        return _load(
            self.name, "causal_lm", self.name, self.max_tokens, self.target_modules, self.dtype
        )


class SentenceEncoder(_HuggingFace):
    """Any sentence encoder with mean pooling; choices are scored by cosine similarity."""

    kind: Literal["sentence_encoder"] = "sentence_encoder"
    target_modules: tuple[str, ...] = Field(
        default=ENCODER_MODULES, description="suffixes of the adapted linear modules"
    )

    def shapes_dk(self) -> Shapes:
        """As of the tiny model, from config.json alone; empty for a hub id, which may be out of reach."""
        return _outline_shapes(
            _resolve_folder(self.name), "sentence_encoder", self.name, self.target_modules
        )

    def load(self) -> Backbone:
        """Read the weights from the folder or the hub."""
        return _load(
            self.name,
            "sentence_encoder",
            self.name,
            self.max_tokens,
            self.target_modules,
            self.dtype,
        )


def _resolve_folder(name: str) -> str:
    """Resolve package:NAME/FOLDER to a folder; every other name is returned unchanged."""
    if not name.startswith("package:"):
        return name
    package, _, inside = name.removeprefix("package:").partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ScenarioError(
            [
                f"backbone.name: got {name!r}, wanted an installed package (no package {package!r}; "
                f"`launch/install.sh dev` installs that of configs/real_text.yaml), {INSTEAD}"
            ]
        )
    return str(Path(spec.submodule_search_locations[0]) / inside)


def _outline_shapes(folder: str, family: str, name: str, suffixes: Sequence[str]) -> Shapes:
    """Shapes of the adapted modules of a local model, without its weights; empty for a hub id."""
    if not is_folder(Path(folder)):
        return ()
    model = outline_model(folder, name, family)
    return _shapes_dk(model, find_adapted_modules(model, suffixes, name))


def _shapes_dk(model: nn.Module, modules: Sequence[str]) -> Shapes:
    weights = (weight_of(model.get_submodule(module)) for module in modules)
    return tuple((weight.shape[0], weight.shape[1]) for weight in weights)


def _load(
    source: str, family: str, name: str, max_tokens: int, suffixes: Sequence[str], dtype: str
) -> Backbone:
    """Load and freeze a model, and find the full names of its adapted modules.

    Raises ScenarioError for a model that cannot be trained or cannot answer.
    """
    from transformers import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    huggingface_hub.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer, model = open_model(_resolve_folder(source), name, family, dtype)
    model.requires_grad_(False)
    model.eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    check_positions(model, max_tokens, name)
    targets = find_adapted_modules(model, suffixes, name)
    try_model(model, family, targets, name)
    check_tokens(tokenizer, model, family, name)
    return Backbone(model, tokenizer, family, name, targets, max_tokens)
