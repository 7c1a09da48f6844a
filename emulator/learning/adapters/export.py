"""Export of an expert as a folder for other programs: a PEFT adapter, or a model of transformers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import nn

from emulator.core.protocols.backbone import LoadedBackbone
from emulator.core.types.arrays import FloatArray
from emulator.core.types.result import Expert
from emulator.learning.linear_layers import is_transposed


def build_peft_files(expert: Expert, backbone: LoadedBackbone) -> Mapping[str, bytes]:
    """A low-rank expert for `PeftModel.from_pretrained`: file name -> bytes.

    Keys and lists are sorted, so equal experts give equal bytes. Law: the loaded adapter gives the
    emulator's logits, except under `method.active_ranks`, because PEFT has no top-k and uses all ranks.
    The law also holds for an adapted output layer that is tied to the embeddings, but not after PEFT
    has merged the adapter, because the merge changes both layers.
    """
    modules = sorted(n.removesuffix(".lora_A") for n in expert.tensors if n.endswith(".lora_A"))
    rank = len(expert.tensors[f"{modules[0]}.lora_A"])
    config = LoraConfig(
        r=rank,
        lora_alpha=round(expert.scaling * rank),
        target_modules=modules,
        lora_dropout=0.0,
        bias="none",
        fan_in_fan_out=any(is_transposed(backbone.model.get_submodule(m)) for m in modules),
        task_type="CAUSAL_LM" if backbone.family == "causal_lm" else None,
        inference_mode=True,
        base_model_name_or_path=backbone.name,
    )
    tensors = {
        f"base_model.model.{module}.{side}.weight": np.ascontiguousarray(
            expert.tensors[f"{module}.{side}"]
        )
        for module in modules
        for side in ("lora_A", "lora_B")
    }
    fields = config.to_dict()  # type: ignore[no-untyped-call]
    text = json.dumps(_sort_deeply(fields), indent=2, sort_keys=True) + "\n"
    return {
        "adapter_config.json": text.encode(),
        "adapter_model.safetensors": save(tensors, metadata={"format": "pt"}),
    }


def read_expert_tensors(adapter_model: bytes) -> dict[str, FloatArray]:
    """The tensors of an expert, read from its `adapter_model.safetensors`.

    Raises ValueError for bytes that are not a LoRA adapter.
    """
    stored = _load_tensors(adapter_model)
    names = {
        name: name.removeprefix("base_model.model.").removesuffix(".weight") for name in stored
    }
    if not stored or not all(short.endswith((".lora_A", ".lora_B")) for short in names.values()):
        raise ValueError("no LoRA adapter")
    return {short: stored[name] for name, short in names.items()}


def check_adapter(
    tensors: Mapping[str, FloatArray], backbone: nn.Module, modules: Sequence[str]
) -> None:
    """Raise ValueError, which names the tensor, unless every module has an A and a B that fit.

    tensors: the result of `read_expert_tensors`. A is [r, k] and B [d, r] for a layer with k inputs and d
    outputs.
    """
    wanted = {f"{module}.{side}" for module in modules for side in ("lora_A", "lora_B")}
    if missing := sorted(wanted - tensors.keys()):
        raise ValueError(f"no {missing[0]} ({len(missing)} tensors of adapter_config.json)")
    if unknown := sorted(tensors.keys() - wanted):
        raise ValueError(f"{unknown[0]}, which adapter_config.json does not have")
    layers = dict(backbone.named_modules())
    for module in modules:
        shape_A, shape_B = (tensors[f"{module}.{side}"].shape for side in ("lora_A", "lora_B"))
        if module not in layers:
            raise ValueError(f"{module}.lora_A, of a layer that the backbone does not have")
        base = layers[module]
        rank, whole = shape_A[:1], len(shape_A) == len(shape_B) == 2
        fits = whole and rank == shape_B[1:]
        if isinstance(base, nn.Linear):
            outputs, inputs = base.weight.shape
            fits = fits and (shape_A[1], shape_B[0]) == (inputs, outputs)
        if not fits:
            raise ValueError(
                f"{module} with A {shape_A} and B {shape_B}, which do not fit the layer"
            )


def build_model_files(expert: Expert, backbone: nn.Module) -> Mapping[str, bytes]:
    """The backbone with an expert's weights for transformers' `from_pretrained`: file name -> bytes.

    The weights are float32, tied weights once. Law: the loaded model gives the emulator's logits.
    """
    tensors = {
        name: weight + np.float32(expert.scaling) * expert.tensors[name]
        for name, weight in _weights(backbone).items()
    }
    fields = json.loads(backbone.config.to_json_string()) | {"dtype": "float32"}  # type: ignore[operator, union-attr]
    return {
        "config.json": (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode(),
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
    }


def read_model_differences(model: bytes, backbone: nn.Module) -> dict[str, FloatArray]:
    """The tensors of an expert, read from its `model.safetensors`, up to rounding, with a scaling of 1.

    Raises ValueError for bytes that are not weights of this backbone.
    """
    stored, weights = _load_tensors(model), _weights(backbone)
    if {n: w.shape for n, w in stored.items()} != {n: w.shape for n, w in weights.items()}:
        raise ValueError("no weights of this backbone")
    return {name: stored[name] - weight for name, weight in weights.items()}


def _weights(backbone: nn.Module) -> dict[str, FloatArray]:
    """All weights in float32, tied ones once."""
    return {name: w.detach().float().cpu().numpy() for name, w in backbone.named_parameters()}


def _load_tensors(data: bytes) -> dict[str, FloatArray]:
    """Load float32 tensors. Raises ValueError for bytes in another format or tensors of another type."""
    try:
        stored = load(data)
    except SafetensorError as error:
        raise ValueError(f"no safetensors ({error})") from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"safetensors of a type that NumPy does not have ({error})") from None
    for name, values in stored.items():
        if values.dtype != np.float32:
            raise ValueError(f"{name} of type {values.dtype}, not float32")
    return stored


def _sort_deeply(value: Any) -> Any:
    """A value with sets as sorted lists and enums as their values, at every level."""
    if isinstance(value, dict):
        return {key: _sort_deeply(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    return getattr(value, "value", value)
