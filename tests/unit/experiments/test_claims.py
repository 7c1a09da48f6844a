"""Claims become sentences that the data decide."""

import pytest

from emulator.experiments import claims
from emulator.experiments.claims import collect_family
from emulator.experiments.runs import RunLine
from emulator.experiments.schema import Bound, Claim, Difference, Growth, Order, Saving


def sentence(claim: Claim, lines: list[RunLine], *others: Claim) -> str:
    """Return the sentence of a table on a claim that it judges together with others."""
    return claims.write_sentence(claim, lines, collect_family([claim, *others], lines))


def test_a_clear_difference(rows):
    lines = rows(ours=[0.9001, 0.91, 0.92], lora=[0.50, 0.51, 0.52])
    claim = Difference(above="ours", below="lora", paper={"Qwen": 9.97})
    assert sentence(claim, lines) == (
        "`ours` above `lora` in accuracy: +40.0 ± 0.0 points, direction holds, significant (p < 0.001); "
        "the rows' intervals do not touch; larger than the paper's +9.97 points (Qwen), which lie outside "
        "the interval."
    )


def test_a_difference_of_the_wrong_sign(rows):
    lines = rows(ours=[0.50, 0.60], lora=[0.52, 0.64])
    assert sentence(Difference(above="ours", below="lora"), lines) == (
        "`ours` above `lora` in accuracy: -3.0 ± 12.7 points, direction not significant "
        "(p 0.205); the rows' intervals touch."
    )


def test_a_clear_difference_of_the_wrong_sign(rows):
    lines = rows(ours=[0.50, 0.60], lora=[0.5201, 0.62])
    written = sentence(Difference(above="ours", below="lora"), lines)
    assert "-2.0 ± 0.1 points, direction does not hold, significant (p 0.002); the rows'" in written


def test_a_difference_along_an_axis_is_written_point_by_point(rows):
    lines = rows(x=10.0, ours=[0.80001, 0.82], once=[0.6, 0.62])
    lines += rows(x=30.0, ours=[0.90001, 0.95], once=[0.93, 0.98])
    touch = "the rows' intervals touch"
    assert sentence(Difference(above="ours", below="once"), lines) == (
        "`ours` above `once` in accuracy: +20.0 ± 0.0 points at 10: holds, significant (p < 0.001), "
        f"{touch}; -3.0 ± 0.0 points at 30: does not hold, significant (p < 0.001), {touch}; direction "
        "holds, significant at 10 only, does not hold, significant at 30 only."
    )
    unlike = rows(x=10.0, ours=[0.8, 0.9], once=[0.8, 0.7]) + rows(x=30.0, ours=[0.9], once=[0.8])
    written = sentence(Difference(above="ours", below="once"), unlike)
    assert written.endswith(
        "+10.0 points at 30: holds in the only seed (not tested); direction significant nowhere."
    )


LEAST = "at least +5 points"


@pytest.mark.parametrize(
    ("ours", "lora", "verdict"),
    [
        ([0.7001, 0.71, 0.72], [0.50, 0.51, 0.52], "holds, significant (p < 0.001)"),
        ([0.50, 0.70, 0.90], [0.40, 0.60, 0.80], "does not hold (the rows' intervals touch)"),
        ([0.70, 0.75, 0.80], [0.66, 0.68, 0.76], "not significant (p 1.000)"),
        ([0.5401, 0.55, 0.56], [0.51, 0.52, 0.53], "does not hold, significant (p < 0.001)"),
        ([0.70], [0.50], "holds in the only seed (not tested)"),
        ([0.54], [0.50], "does not hold in the only seed (not tested)"),
    ],
)
def test_at_least_so_many_points_with_intervals_apart(rows, ours, lora, verdict):
    written = sentence(
        Difference(above="ours", below="lora", at_least=5.0), rows(ours=ours, lora=lora)
    )
    assert written.endswith(f"; {LEAST}: {verdict}.")


@pytest.mark.parametrize(
    ("best", "verdict"),
    [
        ([0.7201, 0.73, 0.71], "holds, significant (p < 0.001)"),
        ([0.75, 0.70, 0.74], "not significant (p 1.000)"),
        ([0.7501, 0.76, 0.74], "does not hold, significant (p < 0.001)"),
    ],
)
def test_at_most_so_many_points(rows, best, verdict):
    claim = Difference(above="best", below="ours", at_most=3.0)
    written = sentence(claim, rows(best=best, ours=[0.70, 0.71, 0.69]))
    assert written.endswith(f"; at most +3 points: {verdict}.")


def test_what_is_promised_is_judged_at_every_place(rows):
    lines = rows(x=10.0, ours=[0.80001, 0.801, 0.802], once=[0.60, 0.601, 0.602])
    lines += rows(x=30.0, ours=[0.80001, 0.801, 0.802], once=[0.78, 0.781, 0.782])
    written = sentence(Difference(above="ours", below="once", at_least=5.0, at_most=30.0), lines)
    assert written.endswith(
        f"; direction holds, significant everywhere; {LEAST} holds, significant at 10 only, does not hold, "
        "significant at 30 only; at most +30 points holds, significant everywhere."
    )


def test_differences_are_written_in_the_columns_unit(line):
    sizes = {"ours": (1.5e6, 1.7e6), "lora": (50.0e6, 54.0e6)}
    lines = [
        line(row, s, bytes_total=size) for row in sizes for s, size in enumerate(sizes[row], 1)
    ]
    claim = Difference(above="lora", below="ours", column="bytes_total", at_least=40.0)
    assert sentence(claim, lines) == (
        "`lora` above `ours` in on the air: +50.40 ± 24.14 MB, direction holds, significant (p 0.048); "
        "the rows' intervals do not touch; at least +40 MB: not significant (p 0.115)."
    )


def test_a_column_above_another_of_the_same_row(line):
    lines = [
        line("lora", seed, forgetting=forgetting, dilution=dilution)
        for seed, forgetting, dilution in ((1, 0.6, 0.20001), (2, 0.7, 0.3))
    ]
    claim = Difference(above="lora", below="lora", column="forgetting", below_column="dilution")
    assert sentence(claim, lines) == (
        "own task lost by an exchange (`lora`) above own task lost by dilution (`lora`): +40.0 ± 0.0 "
        "points, direction holds, significant (p < 0.001); the rows' intervals touch."
    )


def test_a_size_like_the_papers(rows):
    lines = rows(ours=[0.60, 0.61, 0.66], lora=[0.50, 0.52, 0.53])
    written = sentence(Difference(above="ours", below="lora", paper={"Qwen": 9.97}), lines)
    assert "the paper's +9.97 points (Qwen) lie within the interval" in written


def test_one_seed_judges_no_size(rows):
    lines = rows(ours=[0.6], lora=[0.5])
    written = sentence(Difference(above="ours", below="lora", paper={"Qwen": 9.97}), lines)
    assert written.endswith(
        "+10.0 points, direction holds in the only seed (not tested); the paper has +9.97 points (Qwen), a single "
        "seed does not judge its size."
    )


def test_an_order_that_holds_and_one_that_does_not(rows):
    lines = rows(a=[0.1, 0.11, 0.12], b=[0.2, 0.212, 0.22], c=[0.9, 0.911, 0.92])
    what = "Order `a` < `b` < `c` in accuracy"
    assert (
        sentence(Order(rows=("a", "b", "c")), lines) == f"{what}: holds, significant at every step."
    )
    wrong = sentence(Order(rows=("c", "a")), lines)
    assert wrong.endswith(": `c` < `a` does not hold, significant (p < 0.001).")


def test_an_order_of_rows_as_good_as_equal_is_not_significant(rows):
    lines = rows(a=[0.5, 0.51001], b=[0.1, 0.11], c=[0.1, 0.2])
    written = "`b` < `c` not significant"
    assert f"accuracy: {written} (p 0.500)." in sentence(Order(rows=("b", "c")), lines)
    assert f"accuracy: `a` < `b` does not hold, significant (p < 0.001); {written}" in sentence(
        Order(rows=("a", "b", "c")), lines
    )


def test_an_order_without_all_its_rows_is_not_judged(rows):
    written = sentence(Order(rows=("a", "gone", "b")), rows(a=[0.1, 0.1], b=[0.2, 0.2]))
    assert written.endswith("cannot be judged, runs are missing.")


def test_an_order_of_one_seed_is_not_significant(rows):
    written = sentence(Order(rows=("a", "b")), rows(a=[0.1], b=[0.2]))
    assert written.endswith("accuracy: `a` < `b` holds in the only seed (not tested).")


@pytest.mark.parametrize(
    ("percent", "lora", "verdict"),
    [
        (86.0, [1e7, 1.01e7, 1.02e7], "90.1 ± 0.2 % less, holds, significant (p < 0.001)."),
        (95.0, [1e7, 1.01e7, 1.02e7], "90.1 ± 0.2 % less, does not hold, significant (p < 0.001)."),
        (90.0, [1e7, 1.01e7, 1.02e7], "90.1 ± 0.2 % less, not significant (p 0.224)."),
        (86.0, [1e7, 2e7], "92.5 ± 31.8 % less, not significant (p 0.234)."),
        (86.0, [1e8], "99.0 % less, holds in the only seed (not tested)."),
    ],
)
def test_a_saving_is_judged_by_its_interval(rows, percent, lora, verdict):
    lines = rows("bytes_total", ours=[1e6] * len(lora), lora=lora)
    claim = Saving(row="ours", against="lora", percent=percent, source="us")
    assert sentence(claim, lines) == (
        f"`ours` has {percent:g} % less on the air than `lora` (us): measured {verdict}"
    )


def test_a_bound_counts_every_run(rows):
    lines = rows("collision_rate", ours=[0.05, 0.2]) + rows("collision_rate", x=3.0, ours=[0.1])
    written = sentence(Bound(row="ours", column="collision_rate", at_most=10), lines)
    assert written == (
        "`ours` never has more than 10.0 % collision rate: does not hold in 1 of 3 runs; largest 20.0 %."
    )


def test_a_bound_that_held_may_still_be_exceeded(rows):
    """With 95 % confidence by less than 1 - 0.05^(1/n) of seeds: 0.95^58 > 0.05 > 0.95^59."""
    what = "`ours` never has more than 10.0 % collision rate: holds in all runs"
    claim = Bound(row="ours", column="collision_rate", at_most=10)
    few = rows("collision_rate", ours=[0.05, 0.06])
    assert sentence(claim, few) == (
        f"{what} (2) of 2 seeds, and so with 95 % confidence in all runs of all but 77.6 % of seeds; "
        "largest 6.0 %."
    )
    many = sentence(claim, rows("collision_rate", ours=[0.05] * 59))
    assert "(59) of 59 seeds, and so with 95 % confidence in all runs of all but 5.0 % of" in many
    one = sentence(claim, rows("collision_rate", ours=[0.05]))
    assert one == f"{what} (1) in the only seed (not tested); largest 5.0 %."


def test_runs_of_one_seed_are_one_observation_of_a_bound(rows):
    """Along an axis a row has more runs, not more seeds."""
    claim = Bound(row="ours", column="collision_rate", at_most=10)
    two = [line for x in range(8) for line in rows("collision_rate", float(x), ours=[0.05, 0.06])]
    written = sentence(claim, two)
    assert (
        "(16) of 2 seeds, and so with 95 % confidence in all runs of all but 77.6 % of" in written
    )
    one = [line for x in range(8) for line in rows("collision_rate", float(x), ours=[0.05])]
    assert "holds in all runs (8) in the only seed (not tested)" in sentence(claim, one)


@pytest.mark.parametrize(
    ("along", "verdict"),
    [
        (
            ([0.1, 0.1], [0.2, 0.20001], [0.3, 0.30002]),
            "+20.0 ± 0.0 points from 0 to 2, holds, significant (p < 0.001); of 2 steps 2 rise and 0 "
            "fall significantly.",
        ),
        (
            ([0.1, 0.1], [0.4, 0.40001], [0.3, 0.30002]),
            "+20.0 ± 0.0 points from 0 to 2, holds, significant (p < 0.001); of 2 steps 1 rise and 1 "
            "fall significantly.",
        ),
        (
            ([0.1, 0.2], [0.2, 0.20001], [0.3, 0.2]),
            "+10.0 ± 127.1 points from 0 to 2, not significant (p 1.000); of 2 steps 0 rise and 0 fall "
            "significantly.",
        ),
        (
            ([0.3, 0.31], [0.2, 0.21001]),
            "-10.0 ± 0.0 points from 0 to 1, does not hold, significant (p < 0.001).",
        ),
        (([0.1], [0.3]), "+20.0 points from 0 to 1, holds in the only seed (not tested)."),
    ],
)
def test_growth_is_judged_from_end_to_end_and_step_by_step(rows, along, verdict):
    lines = [
        line
        for x, of_seeds in enumerate(along)
        for line in rows("collision_rate", x, lori=of_seeds)
    ]
    written = sentence(Growth(row="lori", column="collision_rate"), lines)
    assert written == f"`lori`: collision rate grows along the axis: {verdict}"


def test_what_all_seeds_agree_on_is_written_and_not_tested(rows):
    lines = rows("trained_parameters", ours=[10.0, 10.0], lora=[100.0, 100.0])
    claim = Saving(row="ours", against="lora", column="trained_parameters", percent=73, source="us")
    assert sentence(claim, lines).endswith(
        "90.0 ± 0.0 % less, holds in all 2 seeds alike (not tested)."
    )
    chance = rows(ours=[0.75, 0.50], lora=[0.70, 0.45])  # two runs of twenty answers
    written = sentence(Difference(above="ours", below="lora"), chance)
    assert "direction holds in all 2 seeds alike (not tested)" in written
    assert collect_family([claim], lines).p_values == ()


def test_all_claims_of_a_table_are_corrected_together(rows):
    """p 0.016 alone; with three tests more it is four times that."""
    lines = rows(ours=[0.5, 0.6, 0.7], lora=[0.40, 0.49, 0.55], lori=[0.5, 0.7, 0.6])
    claim = Difference(above="ours", below="lora")
    others = Difference(above="ours", below="lori"), Order(rows=("lora", "lori", "ours"))
    assert "direction holds, significant (p 0.016)" in sentence(claim, lines)
    assert "direction not significant (p 0.063)" in sentence(claim, lines, *others)
    assert "direction holds, significant (p 0.016)" in sentence(
        claim, lines, Bound(row="ours", column="accuracy", at_most=100)
    )


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
