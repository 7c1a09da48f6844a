"""What the tests of tables, claims and charts share: made-up runs, without any folder."""

from pathlib import Path

import pytest

from emulator.experiments.runs import RUN_COLUMNS, RunLine

NOTHING = dict.fromkeys(RUN_COLUMNS)


@pytest.fixture
def line():
    """Make a run with the given columns; all others are unknown."""

    def made(row, seed, x=None, per_task=None, **values):
        return RunLine(
            row=row,
            x=x,
            seed=seed,
            method="lora",
            devices=4,
            rounds=2,
            folder=Path(f"runs/{row}-{seed}"),
            values={**NOTHING, **values},
            per_task=per_task or {},
        )

    return made


@pytest.fixture
def rows(line):
    """Runs of several rows from `name=[value of seed 1, of seed 2, ...]`."""

    def made(column="accuracy", x=None, **values):
        return [
            line(name.replace("_", " "), seed, x, **{column: value})
            for name, of_seeds in values.items()
            for seed, value in enumerate(of_seeds, start=1)
        ]

    return made
