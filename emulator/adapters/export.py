"""An expert as a folder that others read: a PEFT adapter, or a whole model of transformers."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from peft import LoraConfig
from safetensors.numpy import save
from torch import nn

from emulator.state import Expert


def peft_files(expert: Expert, base_model: str, task_type: str | None) -> Mapping[str, bytes]:
    """A low-rank expert for `PeftModel.from_pretrained`: file name -> bytes.

    Keys and lists are sorted, so equal experts give equal bytes. Law: the loaded adapter gives the emulator's own logits. task_type: CAUSAL_LM or None.
    """
    modules = sorted(n.removesuffix(".lora_A") for n in expert.tensors if n.endswith(".lora_A"))
    rank = len(expert.tensors[f"{modules[0]}.lora_A"])
    config = LoraConfig(
        r=rank,
        lora_alpha=round(expert.scaling * rank),
        target_modules=modules,
        lora_dropout=0.0,
        bias="none",
        task_type=task_type,
        inference_mode=True,
        base_model_name_or_path=base_model,
    )
    tensors = {
        f"base_model.model.{module}.{side}.weight": np.ascontiguousarray(
            expert.tensors[f"{module}.{side}"]
        )
        for module in modules
        for side in ("lora_A", "lora_B")
    }
    fields = config.to_dict()  # type: ignore[no-untyped-call]
    text = json.dumps(_sorted(fields), indent=2, sort_keys=True) + "\n"
    return {
        "adapter_config.json": text.encode(),
        "adapter_model.safetensors": save(tensors, metadata={"format": "pt"}),
    }


def model_files(expert: Expert, backbone: nn.Module) -> Mapping[str, bytes]:
    """The backbone with an expert's weights for transformers' `from_pretrained`: file name -> bytes.

    Float32, tied weights once. Law: the loaded model gives the emulator's own logits.
    """
    tensors = {
        name: weight.detach().float().numpy() + np.float32(expert.scaling) * expert.tensors[name]
        for name, weight in backbone.named_parameters()
    }
    fields = json.loads(backbone.config.to_json_string()) | {"dtype": "float32"}  # type: ignore[operator, union-attr]
    return {
        "config.json": (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode(),
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
    }


def _sorted(value: Any) -> Any:
    """Sets as sorted lists, enums as their values, all the way down."""
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    return getattr(value, "value", value)
