"""Weights in the memory of one process, read by several processes of a host."""

import json
import multiprocessing

import pytest
import torch
from torch import nn

from emulator.learning.backbone.load import Tiny
from emulator.learning.backbone.shared_weights import adopt_weights, export_handles


class Tied(nn.Module):
    """Two names for one weight, a strided view of it, and a buffer that is not saved."""

    def __init__(self, fill: float) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4, bias=False)
        self.second = nn.Linear(3, 4, bias=False)
        self.first.weight = nn.Parameter(torch.full((4, 3), fill), requires_grad=False)
        self.second.weight = self.first.weight
        self.register_buffer("angles", torch.full((2,), fill), persistent=False)


def adopting(handles: str, pipe) -> None:
    """Values in another process, before and after the owner changes them."""
    model = Tied(0.0)
    adopt_weights(model, handles)
    tied = model.first.weight is model.second.weight
    pipe.send((model.first.weight.tolist(), model.angles.tolist(), tied, list(model.state_dict())))
    pipe.recv()
    pipe.send((model.second.weight[0, 0].item(), model.angles.requires_grad))


def test_another_process_sees_the_same_memory() -> None:
    model = Tied(2.0)
    handles = export_handles(model)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=adopting, args=(handles, there))
    process.start()
    try:
        assert here.poll(60)
        weight, angles, tied, saved = here.recv()
        assert weight == [[2.0] * 3] * 4
        assert angles == [2.0, 2.0]
        assert tied
        assert saved == ["first.weight", "second.weight"]
        model.first.weight.data[0, 0] = 7.0
        here.send("changed")
        assert here.poll(60)
        assert here.recv() == (7.0, False)
    finally:
        process.join(60)
        process.kill()


def test_handles_are_plain_json_and_name_each_storage_once() -> None:
    reported = json.loads(export_handles(Tied(1.0)))
    assert len(reported["storages"]) == 2
    assert reported["tensors"]["first.weight"] == reported["tensors"]["second.weight"]


def test_an_adopted_backbone_answers_as_the_one_it_came_from() -> None:
    own, other = Tiny().load(), Tiny().load()
    texts = ["tag01 : g d c p ->", "tag02 : k n g j ->"]
    before = own.prompt_states(texts, None)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.zero_()
    adopt_weights(other.model, export_handles(own.model))
    assert torch.equal(other.prompt_states(texts, None), before)
    assert not any(parameter.requires_grad for parameter in other.model.parameters())


def test_a_tensor_of_another_model_is_missed() -> None:
    other = nn.Linear(2, 2)
    handles = export_handles(other)
    with pytest.raises(KeyError):
        adopt_weights(Tied(0.0), handles)
