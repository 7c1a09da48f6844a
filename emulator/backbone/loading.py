"""The frozen backbone: the embedded tiny one, or any Hugging Face model by hub id or local folder.

Shapes: S texts, T tokens, H hidden width.
"""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from torch import Tensor, nn

from emulator.errors import ScenarioError

STATES_BATCH = 64
"""Texts per forward pass when the frozen model only reads."""

CAUSAL_LM_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ENCODER_MODULES = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


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
        """Where the weights lie, and what is read must lie."""
        return next(self.model.parameters()).device

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids and attention_mask [S, T], padded on the right, cut after max_tokens."""
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
        """Forward passes of the frozen model: (attention_mask [S, T], hidden states [S, T, H] each)."""
        for start in range(0, len(texts), STATES_BATCH):
            tokens = self.tokenize(texts[start : start + STATES_BATCH])
            with torch.inference_mode():  # by its body: a large vocabulary makes many logits
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

    def load(self) -> Backbone:
        """Read the embedded weights."""
        folder = Path(__file__).parent / "tiny" / "weights"
        return _load(
            str(folder),
            "causal_lm",
            "package:emulator/backbone/tiny/weights",
            64,
            CAUSAL_LM_MODULES,
            "float32",
        )


class _HuggingFace(BaseModel):
    """What the two kinds of Hugging Face backbones share."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(
        description="hub id, local folder, or package:NAME/FOLDER inside an installed package"
    )
    max_tokens: int = Field(default=256, gt=0, description="longer inputs are cut [tokens]")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="type of the frozen weights"
    )


class CausalLM(_HuggingFace):
    """Any causal language model; choices are scored by likelihood, other answers generated."""

    kind: Literal["causal_lm"] = "causal_lm"
    target_modules: tuple[str, ...] = Field(
        default=CAUSAL_LM_MODULES, description="suffixes of the adapted linear modules"
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


def _folder(name: str) -> str:
    """Resolve package:NAME/FOLDER; anything else is left to the library."""
    if not name.startswith("package:"):
        return name
    package, _, inside = name.removeprefix("package:").partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ScenarioError(
            [f"backbone.name: got {name!r}, wanted an installed package (no package {package!r})"]
        )
    return str(Path(spec.submodule_search_locations[0]) / inside)


def _load(
    source: str, family: str, name: str, max_tokens: int, suffixes: Sequence[str], dtype: str
) -> Backbone:
    """Load, freeze, and name the adapted modules in full."""
    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        AutoTokenizer,
        logging,
    )

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    huggingface_hub.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = _folder(source)
    local = Path(folder).is_dir()
    if not local and (folder.startswith((".", "/")) or folder.count("/") > 1):
        raise ScenarioError([f"backbone.name: got {name!r}, wanted an existing folder or a hub id"])
    auto = AutoModelForCausalLM if family == "causal_lm" else AutoModel
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=local)
        model = auto.from_pretrained(folder, local_files_only=local, dtype=getattr(torch, dtype))
    except (OSError, ValueError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0]
        offline = " (offline: HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ScenarioError(
            [
                f"backbone.name: got {name!r}, wanted a local model folder, or a hub id and a network "
                f"that reaches the hub{offline}: {first_line}"
            ]
        ) from error
    model.requires_grad_(False)
    model.eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    targets = tuple(
        module_name
        for module_name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(module_name.endswith(f".{s}") for s in suffixes)
    )
    if not targets:
        linear = sorted(
            {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)}
        )
        raise ScenarioError(
            [
                f"backbone.target_modules: got {list(suffixes)}, wanted suffixes of linear modules of "
                f"{name} (it has {', '.join(linear)})"
            ]
        )
    return Backbone(model, tokenizer, family, name, targets, max_tokens)
