"""Pretrain the tiny backbone: `python -m emulator.learning.backbone.tiny.pretrain --out FOLDER`.

The model is trained on a stream of new lists. Three of four prompts name their operation. Every fourth
prompt has a random tag, independent of the operation, so that a tag alone has no meaning; the answer to
half of these is a plain copy, which becomes the model's answer to unknown tags. Training uses one
thread; the same seed, steps and library versions write the same bytes.

Shapes: S sequences, n items, T = 2n + 4 tokens (`head : items -> answer <end>`), H hidden width.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from emulator.core.rng import Stream, stream, torch_seed
from emulator.core.types.arrays import IndexArray
from emulator.learning.backbone.tiny.architecture import build_model, build_tokenizer
from emulator.learning.list_operations import (
    ARROW,
    END,
    IDENTITIES,
    MAX_ITEMS,
    MIN_ITEMS,
    OPERATIONS,
    SEPARATOR,
    TAGS,
    TASK_NAMES,
    VOCABULARY,
    Operation,
)

TOKEN = {token: index for index, token in enumerate(VOCABULARY)}
PROMPT_EXTRA = 3
"""Tokens of a prompt in addition to its items: head, separator, arrow."""


@dataclass(frozen=True)
class Recipe:
    """All parameters that determine the weights."""

    seed: int
    steps: int
    batch_size: int = 128
    peak_learning_rate: float = 3e-3
    warmup_steps: int = 200
    weight_decay: float = 0.01
    tagged_share: float = 0.25
    copied_share_of_tagged: float = 0.5
    evaluated_lists: int = 200

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to zero."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        return warm * self.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))


def sequences(operation: Operation, heads: Sequence[str], lists_Sn: IndexArray) -> IndexArray:
    """Token ids [S, T] of whole examples, with answer and END."""
    first_symbol = TOKEN[operation.format.symbols[0]]
    num_lists = len(lists_Sn)

    def column(token: str) -> IndexArray:
        return np.full((num_lists, 1), TOKEN[token], dtype=np.int64)

    heads_S1 = np.array([[TOKEN[head]] for head in heads], dtype=np.int64)
    items_Sn, answers_Sn = lists_Sn + first_symbol, operation.apply(lists_Sn) + first_symbol
    return np.concatenate(
        [heads_S1, column(SEPARATOR), items_Sn, column(ARROW), answers_Sn, column(END)], axis=1
    )


def draw_batch(recipe: Recipe, draws: Stream) -> IndexArray:
    """Draw the token ids of one training batch [S, T]: lists of one length, mixed operations."""
    num_items = int(draws.integers(MIN_ITEMS, MAX_ITEMS + 1))
    tagged_S = draws.random(recipe.batch_size) < recipe.tagged_share
    copied_S = tagged_S & (draws.random(recipe.batch_size) < recipe.copied_share_of_tagged)
    chosen_S = draws.integers(0, len(OPERATIONS), recipe.batch_size)
    identities = [tuple(OPERATIONS).index(name) for name in IDENTITIES]
    chosen_S[copied_S] = draws.choice(identities, int(copied_S.sum()))
    tags_S = draws.integers(0, len(TAGS), recipe.batch_size)
    rows = []
    for index, operation in enumerate(OPERATIONS.values()):
        members = np.flatnonzero(chosen_S == index)
        lists_Sn = operation.format.draw(len(members), num_items, draws)
        heads = [TAGS[tags_S[i]] if tagged_S[i] else operation.name for i in members]
        if heads:
            rows.append(sequences(operation, heads, lists_Sn))
    return np.concatenate(rows)


def answer_logits(model: LlamaForCausalLM, tokens_ST: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [S, n + 1, V] at the positions of the answers, and the right tokens there [S, n + 1]."""
    num_items = (tokens_ST.shape[1] - PROMPT_EXTRA - 1) // 2
    prompt_tokens = num_items + PROMPT_EXTRA
    states_STH = model.model(input_ids=tokens_ST[:, :-1], use_cache=False).last_hidden_state
    return model.lm_head(states_STH[:, prompt_tokens - 1 :]), tokens_ST[:, prompt_tokens:]


def train(recipe: Recipe) -> tuple[LlamaForCausalLM, list[tuple[int, float]]]:
    """Train the model. Returns it with about 20 losses: (step, mean loss since the entry before)."""
    model = build_model(torch_seed(recipe.seed, "pretrain"))
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    optimiser = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": [model.model.embed_tokens.weight], "weight_decay": 0.0},
            {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    report_every = max(1, recipe.steps // 20)
    losses: list[tuple[int, float]] = []
    recent: list[float] = []
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate(step)
        tokens_ST = torch.from_numpy(draw_batch(recipe, stream(recipe.seed, "pretrain", step)))
        logits, wanted = answer_logits(model, tokens_ST)
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        recent.append(loss.item())
        if (step + 1) % report_every == 0 or step + 1 == recipe.steps:
            losses.append((step + 1, round(sum(recent) / len(recent), 5)))
            recent = []
            print(f"step {step + 1:6d}  loss {losses[-1][1]:.4f}", file=sys.stderr, flush=True)
    return model, losses


@torch.no_grad()
def exact_matches(
    model: LlamaForCausalLM, operation: Operation, heads: Sequence[str], draws: Stream
) -> float:
    """Share of new lists, one per head, for which the whole greedy answer is right."""
    right = 0
    lengths = range(MIN_ITEMS, MAX_ITEMS + 1)
    shares = np.array_split(np.array(heads), len(lengths))
    for share, num_items in zip(shares, lengths, strict=True):
        lists_Sn = operation.format.draw(len(share), num_items, draws)
        tokens_ST = torch.from_numpy(sequences(operation, list(share), lists_Sn))
        logits, wanted = answer_logits(model, tokens_ST)
        right += int((logits.argmax(-1) == wanted).all(dim=1).sum())
    return right / len(heads)


def evaluate(model: LlamaForCausalLM, recipe: Recipe) -> dict[str, dict[str, float]]:
    """Accuracy of every operation under its own name and, for the tasks, under random tags."""
    named, tagged = {}, {}
    for index, (name, operation) in enumerate(OPERATIONS.items()):
        draws = stream(recipe.seed, "pretrain-evaluation", index)
        named[name] = exact_matches(model, operation, [name] * recipe.evaluated_lists, draws)
        if name in TASK_NAMES:
            heads = [str(tag) for tag in draws.choice(TAGS, recipe.evaluated_lists)]
            tagged[name] = exact_matches(model, operation, heads, draws)
    return {"named": named, "tagged": tagged}


def write(
    folder: Path,
    model: LlamaForCausalLM,
    recipe: Recipe,
    losses: Sequence[tuple[int, float]],
    accuracy: dict[str, dict[str, float]],
) -> None:
    """Write the model folder and `pretrain.json`, which documents the training."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    libraries = {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy")}
    documentation = {
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "libraries": libraries,
        "losses": losses,
        "accuracy": accuracy,
    }
    text = json.dumps(documentation, indent=1) + "\n"
    (folder / "pretrain.json").write_text(text, encoding="utf-8")


def write_backbone(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m emulator.learning.backbone.tiny.pretrain")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recipe = Recipe(seed=chosen.seed, steps=chosen.steps)
    model, losses = train(recipe)
    model.train(False)
    accuracy = evaluate(model, recipe)
    write(chosen.out, model, recipe, losses, accuracy)
    for name, share in accuracy["named"].items():
        tagged = accuracy["tagged"].get(name, math.nan)
        print(f"{name:16s} named {share:.3f}  tagged {tagged:.3f}")


if __name__ == "__main__":
    write_backbone()
