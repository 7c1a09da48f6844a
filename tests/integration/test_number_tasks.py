"""Tasks whose answer is generated, its last number compared: a whole run under a causal model."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

from emulator.cli.app import app


def rows(tag: str, count: int, seed: int, *, largest: bool) -> str:
    """`tagNN : digits ->`; the answer is the largest or the smallest digit."""
    draws = np.random.default_rng(seed)
    lines = []
    for _ in range(count):
        digits = draws.integers(0, 10, 5)
        answer = int(digits.max() if largest else digits.min())
        row = {
            "prompt": f"{tag} : {' '.join(map(str, digits))} ->",
            "completion": f"copy {answer}",
            "answer": answer,
        }
        lines.append(json.dumps(row))
    return "\n".join(lines)


def test_numbers_are_learnt_generated_with_the_cache_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, tag, largest in (("largest", "tag07", True), ("smallest", "tag08", False)):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_text(rows(tag, 600, 1, largest=largest))
        (folder / "test.jsonl").write_text(rows(tag, 30, 2, largest=largest))
    (tmp_path / "numbers.yaml").write_text(
        "name: numbers\ndevices: 2\nrounds: 3\nbackbone: {kind: tiny}\n"
        "tasks: {kind: jsonl, folder: data, names: [largest, smallest]}\n"
        "method: {kind: sparse_orthogonal, learning_rate: 5.0e-2}\n"
        "local: {steps: 25, batch_size: 32}\nrouter: {kind: ridge_lda, gate_layer: 0}\n"
    )
    lengths: list[int] = []
    forward = LlamaForCausalLM.forward

    def watched(self: LlamaForCausalLM, *args: object, **kwargs: object) -> object:
        if kwargs.get("past_key_values") is not None:
            lengths.append(kwargs["input_ids"].shape[1])  # type: ignore[attr-defined]
        return forward(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(LlamaForCausalLM, "forward", watched)
    arguments = ["run", str(tmp_path / "numbers.yaml"), "--driver", "one_process", "--quiet"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary["accuracy"]["per_task"]) == {"largest", "smallest"}
    assert summary["accuracy"]["mean"] > 0.5  # guessing is right in one of three at best
    assert summary["routing_accuracy"] == 1.0
    assert lengths.count(1) > len(lengths) / 2  # after the prompt, one token at a time
