"""An expert as a standard PEFT adapter folder: what `PeftModel.from_pretrained` reads."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.numpy import load, save

from emulator.state import Expert, FloatArray


def peft_files(expert: Expert, base_model: str, task_type: str | None) -> Mapping[str, bytes]:
    """File name -> bytes. Keys and lists are sorted, so equal experts give equal bytes.

    Law: the loaded adapter gives the emulator's own logits. task_type: CAUSAL_LM or None.
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


def expert_tensors(adapter_model: bytes) -> dict[str, FloatArray]:
    """An expert's tensors back from its `adapter_model.safetensors`.

    Raises ValueError for bytes that hold no adapter.
    """
    try:
        stored = load(adapter_model)
    except SafetensorError as error:
        raise ValueError(f"no safetensors ({error})") from None
    names = {
        name: name.removeprefix("base_model.model.").removesuffix(".weight") for name in stored
    }
    if not stored or not all(short.endswith((".lora_A", ".lora_B")) for short in names.values()):
        raise ValueError("no LoRA adapter")
    return {short: stored[name] for name, short in names.items()}


def _sorted(value: Any) -> Any:
    """Sets as sorted lists, enums as their values, all the way down."""
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    return getattr(value, "value", value)
