"""One set of frozen weights for many processes of a host: processes exchange handles, not weights.

On a GPU a handle is CUDA's (interprocess communication); in main memory it is the name of a shared file.
The exporting process must run until no other process uses the weights. Handles are JSON, not pickle.
"""

import base64
import json
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn

Handle = list[Any]
"""Torch's handle of a shared storage: numbers, booleans, text, and bytes as {"bytes": base64}."""


def export_handles(model: nn.Module) -> str:
    """Move a model's parameters and buffers to shared memory and return handles to them.

    Law: `adopt_weights` with these handles, in another process of this host, gives the same tensors;
    tied tensors stay tied.
    """
    storages: dict[int, int] = {}
    handles: list[Handle] = []
    tensors: dict[str, list[Any]] = {}
    for name, tensor in _list_tensors(model):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in storages:
            handle = _make_handle(storage)  # this may move the storage
            storages[storage.data_ptr()] = len(handles)
            handles.append([storage.is_cuda, *map(_to_json, handle)])
        tensors[name] = [
            storages[storage.data_ptr()],
            str(tensor.dtype).removeprefix("torch."),
            tensor.storage_offset(),
            list(tensor.shape),
            list(tensor.stride()),
        ]
    return json.dumps({"storages": handles, "tensors": tensors})


def adopt_weights(model: nn.Module, handles: str) -> None:
    """Replace the model's tensors with those of another process; parameters stay frozen."""
    read = json.loads(handles)
    storages = [
        _open_storage(cuda, [_from_json(x) for x in rest]) for cuda, *rest in read["storages"]
    ]
    shared = {
        name: _make_view(storages[index], *rest) for name, (index, *rest) in read["tensors"].items()
    }
    parameters: dict[tuple[int, int], nn.Parameter] = {}
    for name, old in _list_tensors(model):
        new = shared[name]
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        if isinstance(old, nn.Parameter):
            place = (new.data_ptr(), new.numel())
            new = parameters.setdefault(place, nn.Parameter(new, requires_grad=False))
            module.register_parameter(leaf, new)
        else:
            persistent = leaf not in module._non_persistent_buffers_set
            module.register_buffer(leaf, new, persistent=persistent)


def _list_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """All parameters and buffers under each of their names."""
    return [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]


def _make_handle(storage: UntypedStorage) -> tuple[Any, ...]:
    handle: tuple[Any, ...] = (
        storage._share_cuda_()  # type: ignore[no-untyped-call]
        if storage.is_cuda
        else storage._share_filename_cpu_()
    )
    return handle


def _open_storage(cuda: bool, handle: Handle) -> UntypedStorage:
    if cuda:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        return UntypedStorage._new_shared_cuda(*handle)
    return UntypedStorage._new_shared_filename_cpu(*handle)


def _make_view(
    storage: UntypedStorage, dtype: str, offset: int, shape: list[int], stride: list[int]
) -> Tensor:
    empty = torch.empty(0, dtype=getattr(torch, dtype), device=storage.device)
    return empty.set_(storage, offset, shape, stride)


def _to_json(value: Any) -> Any:
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _from_json(value: Any) -> Any:
    return base64.b64decode(value["bytes"]) if isinstance(value, dict) else value
