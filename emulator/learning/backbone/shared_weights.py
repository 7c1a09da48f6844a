"""One set of frozen weights for many processes of a host: handles to memory travel, no weights.

On a GPU a handle is CUDA's (interprocess communication), in main memory the name of a shared file. Who
exports must outlive all who adopt_weights, as long as they use the weights. Handles are JSON, no pickle.
"""

import base64
import json
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn

Handle = list[Any]
"""What torch tells of a shared storage: numbers, booleans, text, and bytes as {"bytes": base64}."""


def export_handles(model: nn.Module) -> str:
    """Handles to a model's parameters and buffers; from now on they lie in shared memory.

    Law: `adopt_weights` of it, in another process of this host, gives the same tensors, tied ones still tied.
    """
    storages: dict[int, int] = {}
    handles: list[Handle] = []
    tensors: dict[str, list[Any]] = {}
    for name, tensor in _tensors(model):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in storages:
            handle = _handle(storage)  # which may move it
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
    """Put another process's tensors in the place of the model's own; parameters stay frozen."""
    told = json.loads(handles)
    storages = [_opened(cuda, [_from_json(x) for x in rest]) for cuda, *rest in told["storages"]]
    shared = {
        name: _view(storages[index], *rest) for name, (index, *rest) in told["tensors"].items()
    }
    parameters: dict[tuple[int, int], nn.Parameter] = {}
    for name, old in _tensors(model):
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


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """All parameters and buffers by every name that they have."""
    return [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]


def _handle(storage: UntypedStorage) -> tuple[Any, ...]:
    told: tuple[Any, ...] = (
        storage._share_cuda_()  # type: ignore[no-untyped-call]
        if storage.is_cuda
        else storage._share_filename_cpu_()
    )
    return told


def _opened(cuda: bool, handle: Handle) -> UntypedStorage:
    if cuda:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        return UntypedStorage._new_shared_cuda(*handle)
    return UntypedStorage._new_shared_filename_cpu(*handle)


def _view(
    storage: UntypedStorage, dtype: str, offset: int, shape: list[int], stride: list[int]
) -> Tensor:
    empty = torch.empty(0, dtype=getattr(torch, dtype), device=storage.device)
    return empty.set_(storage, offset, shape, stride)


def _to_json(value: Any) -> Any:
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _from_json(value: Any) -> Any:
    return base64.b64decode(value["bytes"]) if isinstance(value, dict) else value
