"""Reading a model from a folder or the hub; a folder with missing or foreign weights is refused.

A folder can hold weights of another architecture, of fewer layers, or without an output layer.
transformers then draws the missing weights at random and continues. Here such a folder is an error whose
message names the weights.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from emulator.core.errors import ScenarioError
from emulator.core.places import is_file, is_folder

INSTEAD = "or --set backbone.name= a local model folder, or a hub id where the hub is reached"
"""Other sources of a backbone, for messages."""

MODEL_FILES = (".json", ".safetensors", ".bin", ".model", ".txt")
"""Suffixes of the files of a model folder."""

MOST_NAMES = 3
"""Most weights that a message names."""

MOST_CAUSE = 300
"""Most characters of another library's message in a message."""


def open_model(folder: str, name: str, family: str, dtype: str) -> tuple[Any, Any]:
    """Load tokenizer and model of a folder or hub id, without running code from there.

    name: the text that the user wrote. dtype: of the weights. generation_config.json is not read. A part
    that the emulator does not use and that has no weights (a pooler) is set to zero.
    Raises ScenarioError for a model that cannot be loaded, is quantised, or has weights that do not
    match its architecture.
    """
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoTokenizer,
        GenerationConfig,
    )

    auto = AutoModelForCausalLM if family == "causal_lm" else AutoModel
    local = is_folder(Path(folder))
    if not local and (folder.startswith((".", "/")) or folder.count("/") > 1):
        raise ScenarioError([f"backbone.name: got {name!r}, wanted an existing folder or a hub id"])
    if local:
        _check_readable(Path(folder), name)
    how: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **how)
        _check_kind(config, name)
        tokenizer = AutoTokenizer.from_pretrained(folder, **how)
        model, loading = auto.from_pretrained(  # type: ignore[misc]
            folder,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # `loading` lists them, and they are refused below
            generation_config=GenerationConfig(),  # type: ignore[no-untyped-call]  # not the folder's
            **how,
        )
    except ScenarioError:
        raise
    except Exception as error:  # tokenizers raises no narrower class
        raise ScenarioError([_describe_failure(name, family, local, error)]) from error
    unread = [key for key in loading["missing_keys"] if _is_unread(key, family)]
    if misfits := _find_misfits(model, loading, unread):
        raise ScenarioError(
            [
                f"backbone.name: got {name!r}, whose weights are not those of "
                f"{type(model).__name__} with its config.json, wanted all of them and no others: "
                f"{'; '.join(misfits)}"
            ]
        )
    with torch.no_grad():  # transformers drew them at random, differently in every process
        for key in unread:
            model.get_parameter(key).zero_()
    return tokenizer, model


def outline_model(folder: str, name: str, family: str) -> nn.Module:
    """Build the modules of a local folder's model from config.json, without memory for weights.

    Raises ScenarioError as `open_model` does.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    auto = AutoModelForCausalLM if family == "causal_lm" else AutoModel
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        _check_kind(config, name)
        with torch.device("meta"):
            model: nn.Module = auto.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except ScenarioError:
        raise
    except Exception as error:  # tokenizers raises no narrower class
        raise ScenarioError([_describe_failure(name, family, True, error)]) from error
    return model


def shorten_message(error: Exception) -> str:
    """The message of another library on one line, cut after MOST_CAUSE characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MOST_CAUSE else f"{text[:MOST_CAUSE].rsplit(' ', 1)[0]} ..."


def _check_readable(folder: Path, name: str) -> None:
    """Raise ScenarioError for a file of a model that this process may not read.

    transformers treats such a file as missing.
    """
    for file in sorted(folder.iterdir()):
        if file.suffix in MODEL_FILES and is_file(file):
            try:
                file.open("rb").close()
            except OSError as error:
                raise ScenarioError(
                    [
                        f"backbone.name: got {name!r}, whose {file.name} cannot be read "
                        f"({error.strerror}), wanted a folder that this user may read"
                    ]
                ) from None


def _check_kind(config: Any, name: str) -> None:
    """Raise ScenarioError for a quantised model and for an encoder with a decoder."""
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None:
        fields = quantised if isinstance(quantised, dict) else quantised.to_dict()
        method = fields.get("quant_method", "a method of its own")
        raise ScenarioError(
            [
                f"backbone.name: got {name!r}, whose weights are quantised ({method}), wanted "
                "float32, bfloat16 or float16 ones"
            ]
        )
    if getattr(config, "is_encoder_decoder", False):
        raise ScenarioError(
            [
                f"backbone.name: got {name!r}, an encoder with a decoder ({config.model_type}), wanted "
                "a decoder alone (causal_lm) or an encoder alone (sentence_encoder)"
            ]
        )


def _describe_failure(name: str, family: str, local: bool, error: Exception) -> str:
    """The message for a model that could not be loaded."""
    if "trust_remote_code" in str(error):
        cause = "it needs code of its own (auto_map), which is not run"
    else:
        cause = shorten_message(error)
    if local:
        return (
            f"backbone.name: got {name!r}, wanted a folder from which transformers loads a {family} "
            f"and its tokenizer: {cause}"
        )
    offline = " (offline: HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return (
        f"backbone.name: got {name!r}, wanted a local model folder (--set backbone.name=FOLDER), or a "
        f"hub id and a network that reaches the hub{offline}: {cause}"
    )


def _is_unread(key: str, family: str) -> bool:
    """Whether the emulator does not use a weight: mean pooling needs no pooler."""
    return family == "sentence_encoder" and "pooler" in key.split(".")


def _find_misfits(model: nn.Module, loading: Mapping[str, Any], unread: Sequence[str]) -> list[str]:
    """The differences between weights and model, in words; empty if there are none.

    loading: the report of transformers. Weights of a part that the model lacks as a whole (the head of
    another task) are not a difference.
    """
    missing = sorted(set(loading["missing_keys"]) - set(unread))
    of_its_parts = [key for key in loading["unexpected_keys"] if _names_a_part(model, key)]
    unknown = sorted(loading["unexpected_keys"] if missing else of_its_parts)
    shapes = [
        f"{key} {list(got)} for {list(wanted)}" for key, got, wanted in loading["mismatched_keys"]
    ]
    found = {"missing": missing, "unknown": unknown, "of another shape": sorted(shapes)}
    misfits = [f"{what}: {_join_first(names)}" for what, names in found.items() if names]
    return misfits + [" ".join(text.split()) for text in loading["error_msgs"]]


def _names_a_part(model: nn.Module, key: str) -> bool:
    """Whether the name of a weight begins with the name of one of the model's parts."""
    parts = dict(model.named_children())
    own_prefix = f"{model.base_model_prefix}."
    inner = key if key.split(".")[0] in parts else key.removeprefix(own_prefix)
    return inner.split(".")[0] in parts


def _join_first(names: Sequence[str]) -> str:
    """The first MOST_NAMES names, and the number of the others."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
