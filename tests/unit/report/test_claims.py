"""Claims become sentences that the data decide."""

import pytest

from emulator.experiments import Bound, Difference, Growth, Order, Saving
from emulator.report.claims import sentence


def test_a_clear_difference(rows):
    lines = rows(ours=[0.90, 0.91, 0.92], lora=[0.50, 0.51, 0.52])
    claim = Difference(above="ours", below="lora", paper={"Qwen": 9.97})
    assert sentence(claim, lines) == (
        "`ours` above `lora` in accuracy: +40.0 ± 0.0 points, direction holds; intervals do not touch; "
        "larger than the paper's +9.97 points (Qwen)."
    )


def test_a_difference_of_the_wrong_sign(rows):
    lines = rows(ours=[0.50, 0.60], lora=[0.52, 0.64])
    assert sentence(Difference(above="ours", below="lora"), lines) == (
        "`ours` above `lora` in accuracy: -3.0 ± 12.7 points, direction not settled (0 "
        "lies within); intervals touch."
    )


def test_a_clear_difference_of_the_wrong_sign(rows):
    lines = rows(ours=[0.50, 0.60], lora=[0.52, 0.62])
    told = sentence(Difference(above="ours", below="lora"), lines)
    assert "-2.0 ± 0.0 points, direction does not hold; intervals touch" in told


def test_a_difference_along_an_axis_is_told_place_by_place(rows):
    lines = rows(x=10.0, ours=[0.8, 0.82], once=[0.6, 0.62])
    lines += rows(x=30.0, ours=[0.9, 0.95], once=[0.93, 0.98])
    assert sentence(Difference(above="ours", below="once"), lines) == (
        "`ours` above `once` in accuracy: +20.0 ± 0.0 points at 10 (intervals touch), -3.0 ± 0.0 points "
        "at 30 (intervals touch); direction holds at 10 only."
    )
    nowhere = sentence(Difference(above="once", below="ours"), lines[:4])
    assert nowhere.endswith("direction holds nowhere.")


LEAST = "at least +5 points"


@pytest.mark.parametrize(
    ("ours", "lora", "verdict"),
    [
        ([0.70, 0.71, 0.72], [0.50, 0.51, 0.52], "holds"),
        ([0.50, 0.70, 0.90], [0.40, 0.60, 0.80], "does not hold (intervals touch)"),
        ([0.70, 0.75, 0.80], [0.66, 0.68, 0.76], "not settled (it lies within the interval)"),
        ([0.54, 0.55, 0.56], [0.51, 0.52, 0.53], "does not hold"),
        ([0.70], [0.50], "holds"),  # one seed has no interval, as is told before it
        ([0.54], [0.50], "does not hold"),
    ],
)
def test_at_least_so_many_points_with_intervals_apart(rows, ours, lora, verdict):
    told = sentence(
        Difference(above="ours", below="lora", at_least=5.0), rows(ours=ours, lora=lora)
    )
    assert told.endswith(f"; {LEAST}: {verdict}.")


@pytest.mark.parametrize(
    ("best", "verdict"),
    [
        ([0.72, 0.73, 0.71], "holds"),
        ([0.75, 0.70, 0.74], "not settled (it lies within the interval)"),
        ([0.75, 0.76, 0.74], "does not hold"),
    ],
)
def test_at_most_so_many_points(rows, best, verdict):
    claim = Difference(above="best", below="ours", at_most=3.0)
    told = sentence(claim, rows(best=best, ours=[0.70, 0.71, 0.69]))
    assert told.endswith(f"; at most +3 points: {verdict}.")


def test_what_is_promised_is_judged_at_every_place(rows):
    lines = rows(x=10.0, ours=[0.80, 0.82], once=[0.60, 0.61])
    lines += rows(x=30.0, ours=[0.80, 0.82], once=[0.78, 0.80])
    told = sentence(Difference(above="ours", below="once", at_least=5.0, at_most=30.0), lines)
    assert told.endswith(
        f"; direction holds everywhere; {LEAST} holds at 10 only; at most +30 points holds everywhere."
    )


def test_differences_are_told_in_the_columns_unit(line):
    sizes = {"ours": (1.5e6, 1.7e6), "lora": (50.0e6, 54.0e6)}
    lines = [
        line(row, s, bytes_total=size) for row in sizes for s, size in enumerate(sizes[row], 1)
    ]
    claim = Difference(above="lora", below="ours", column="bytes_total", at_least=40.0)
    assert sentence(claim, lines) == (
        "`lora` above `ours` in on the air: +50.40 ± 24.14 MB, direction holds; intervals do not touch; "
        "at least +40 MB: not settled (it lies within the interval)."
    )


def test_a_column_above_another_of_the_same_row(line):
    lines = [
        line("lora", seed, forgetting=forgetting, dilution=dilution)
        for seed, forgetting, dilution in ((1, 0.6, 0.2), (2, 0.7, 0.3))
    ]
    claim = Difference(above="lora", below="lora", column="forgetting", below_column="dilution")
    assert sentence(claim, lines) == (
        "own task lost by an exchange (`lora`) above own task lost by dilution (`lora`): +40.0 ± 0.0 "
        "points, direction holds; intervals touch."
    )


def test_a_size_like_the_papers(rows):
    lines = rows(ours=[0.60, 0.61, 0.66], lora=[0.50, 0.52, 0.53])
    told = sentence(Difference(above="ours", below="lora", paper={"Qwen": 9.97}), lines)
    assert "the paper's +9.97 points (Qwen) lie within the interval" in told


def test_one_seed_judges_no_size(rows):
    lines = rows(ours=[0.6], lora=[0.5])
    told = sentence(Difference(above="ours", below="lora", paper={"Qwen": 9.97}), lines)
    assert told.endswith(
        "+10.0 points (one seed), direction holds; one seed has no interval; the paper has +9.97 "
        "points (Qwen), a single seed does not judge its size."
    )


def test_an_order_that_holds_and_one_that_does_not(rows):
    lines = rows(a=[0.1, 0.2, 0.3], b=[0.2, 0.3, 0.41], c=[0.9, 0.91, 0.92])
    assert sentence(Order(rows=("a", "b", "c")), lines) == (
        "Order `a` < `b` < `c` in accuracy: holds; intervals touch between `a` and `b`."
    )
    assert "does not hold: `c` is not below `a`" in sentence(Order(rows=("c", "a")), lines)


def test_an_order_of_rows_as_good_as_equal_is_not_settled(rows):
    lines = rows(a=[0.5, 0.51], b=[0.1, 0.11], c=[0.1, 0.2])
    told = "not settled between `b` and `c` (0 lies within the difference); intervals touch"
    assert f"accuracy: {told}" in sentence(Order(rows=("b", "c")), lines)
    assert f"accuracy: does not hold: `a` is not below `b`; {told}" in sentence(
        Order(rows=("a", "b", "c")), lines
    )


def test_an_order_without_all_its_rows_is_not_judged(rows):
    told = sentence(Order(rows=("a", "gone", "b")), rows(a=[0.1, 0.1], b=[0.2, 0.2]))
    assert told.endswith("cannot be judged, runs are missing.")


def test_one_seed_has_no_intervals_that_could_touch(rows):
    told = sentence(Order(rows=("a", "b")), rows(a=[0.1], b=[0.2]))
    assert told.endswith("holds; one seed has no interval.")


def test_a_saving(rows):
    lines = rows("bytes_total", ours=[1e6, 1e6], lora=[1e7, 2e7])
    claim = Saving(row="ours", against="lora", percent=86, source="us")
    assert sentence(claim, lines) == (
        "`ours` has 86 % less on the air than `lora` (us): measured 92.5 ± 31.8 % less, holds."
    )
    assert sentence(claim.model_copy(update={"percent": 95.0}), lines).endswith("does not hold.")


def test_a_bound_counts_every_run(rows):
    lines = rows("collision_rate", ours=[0.05, 0.2]) + rows("collision_rate", x=3.0, ours=[0.1])
    told = sentence(Bound(row="ours", column="collision_rate", at_most=10), lines)
    assert told == (
        "`ours` never has more than 10.0 % collision rate: does not hold in 1 of 3 runs; largest of 3 "
        "runs 20.0 %."
    )


@pytest.mark.parametrize(
    ("along", "verdict"),
    [
        ([0.1, 0.2, 0.3], "holds;"),
        ([0.1, 0.4, 0.3], "holds in all, not step by step;"),
        ([0.3, 0.2, 0.1], "does not hold;"),
    ],
)
def test_growth(rows, along, verdict):
    lines = [
        line for x, value in enumerate(along) for line in rows("collision_rate", x, lori=[value])
    ]
    told = sentence(Growth(row="lori", column="collision_rate"), lines)
    assert told.startswith(f"`lori`: collision rate grows along the axis: {verdict}")


@pytest.mark.parametrize(
    "claim",
    [
        Difference(above="a", below="b"),
        Order(rows=("a", "b")),
        Saving(row="a", against="b", percent=1, source="us"),
        Bound(row="a", column="accuracy", at_most=1),
        Growth(row="a", column="accuracy"),
    ],
    ids=lambda claim: claim.kind,
)
def test_without_runs_nothing_is_judged(claim):
    assert sentence(claim, []).endswith("cannot be judged, runs are missing.")
