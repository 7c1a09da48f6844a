"""If the vocabulary is large, logits are computed only for tokens in the loss."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from emulator.learning.adapters.lora import LoraModel
from emulator.learning.backbone.load import Tiny
from emulator.learning.tasks.causal_learner import IGNORED, CausalBatch, CausalLearner


def test_logits_of_a_large_vocabulary_are_computed_only_where_needed() -> None:
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config)
    adapted = LoraModel(model, ["model.layers.0.self_attn.q_proj"], 2, 2, ("lora_B",)).module
    ids = torch.arange(24).view(2, 12)
    labels = torch.full_like(ids, IGNORED)
    labels[0, 7:9], labels[1, 8:11] = 5, 6
    asked: list[int] = []
    adapted.base_model.model.lm_head.register_forward_hook(
        lambda _m, _i, output: asked.append(output.shape[1])
    )
    learner = CausalLearner(Tiny().load())
    loss = learner.loss(adapted, CausalBatch(ids, torch.ones_like(ids), labels))
    assert asked == [4]  # the tokens before 7 ... 10
    logits = model(ids).logits[:, :-1].flatten(0, 1)
    wanted = torch.nn.functional.cross_entropy(
        logits, labels[:, 1:].flatten(), ignore_index=IGNORED
    )
    assert float(loss.detach()) == pytest.approx(float(wanted), rel=1e-6)
