"""What a class of a user's own raises is one line, the same under both drivers."""

import re

import pytest
from quick import quick_scenario
from typer.testing import CliRunner

from emulator.cli.app import app

pytestmark = pytest.mark.usefixtures("no_launcher")

MODULE = """
import numpy as np

from emulator.learning.routing import Uniform
from emulator.learning.tasks.synthetic import Synthetic
from emulator.methods.gossip import Gossip
from emulator.methods.lora import Lora, start_dense


class Exchanges(Lora):
    kind: str

    def start(self, ctx):
        start_dense(ctx, self.lora_rank, self.lora_alpha, self.learning_rate)
        return Part(ctx, shared=ctx.model.adapted.layout.part("lora_B"))


class Part(Gossip):
    def exchange(self, round_index):
        if (round_index, self.ctx.info.id) == (1, 1):
            raise ValueError("no\\nneighbours")  # exchange
        yield from super().exchange(round_index)


class Starts(Lora):
    kind: str

    def start(self, ctx):
        if ctx.info.id == 1:
            raise TypeError("no start")  # start
        return super().start(ctx)


class Tasks(Synthetic):
    kind: str

    def examples(self, task, split, seed):
        raise FileNotFoundError(task)  # examples


class Reads(Uniform):
    kind: str

    def features(self, backbone, questions, seed):
        return {}["q"]  # features
"""

ONES = {
    "exchanges": (
        "method.kind=part_of_a_user:Exchanges",
        "device 1 failed (after round 0): ValueError: no neighbours",
        "exchange",
    ),
    "starts": (
        "method.kind=part_of_a_user:Starts",
        "device 1 failed (no round done): TypeError: no start",
        "start",
    ),
    "tasks": ("tasks.kind=part_of_a_user:Tasks", "FileNotFoundError: reverse", "examples"),
    "reads": ("router.kind=part_of_a_user:Reads", "KeyError: 'q'", "features"),
}


@pytest.mark.parametrize("driver", ["one_process", "many_processes"])
@pytest.mark.parametrize(("override", "cause", "where"), ONES.values(), ids=ONES)
def test_it_is_named_with_its_line(tmp_path, monkeypatch, driver, override, cause, where):
    (tmp_path / "part_of_a_user.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    order = ("run", quick_scenario(tmp_path), override, "rounds=2", "checkpoint_every=0")
    order += ("--driver", driver, "--quiet")
    done = CliRunner().invoke(app, [*map(str, order), "--out", str(tmp_path / "out")])
    line = next(n for n, text in enumerate(MODULE.splitlines(), 1) if f"# {where}" in text)
    assert done.exit_code == 1
    assert done.stdout == ""
    told = f"error: {cause}, part_of_a_user.py:{line} in {where}; EMULATOR_TRACEBACK=1 shows the"
    assert re.fullmatch(rf"{re.escape(told)} traceback\n", done.stderr)
