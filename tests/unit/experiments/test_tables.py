"""The table of made-up results, word for word."""

from dataclasses import replace

import pytest

from emulator.core.errors import ScenarioError
from emulator.experiments.charts import draw, pareto_front
from emulator.experiments.runs import format_csv
from emulator.experiments.schema import Bound, Difference, Experiment
from emulator.experiments.tables import Drawn, build_document, check_columns

EXPERIMENT = Experiment.model_validate(
    {
        "title": "Two methods",
        "about": "Made up.",
        "source": "nowhere, Table 0",
        "suites": {"tiny": {"seeds": 2}},
        "baseline": "lora",
        "columns": ["accuracy", "trained_parameters", "bytes_total"],
        "rows": [
            {
                "label": "lora",
                "about": "the baseline",
                "overrides": {
                    "method.kind": "lora",
                    "local.speeds": [1, 2],
                    "tasks.names": ["sort"],
                },
                "paper": {"Qwen": 68.03},
            },
            {"label": "ours", "about": "sparse"},
        ],
        "claims": [{"kind": "order", "rows": ["lora", "ours"]}],
        "charts": [
            {"kind": "bars"},
            {"kind": "front"},
            {"kind": "scatter", "column": "accuracy", "against": "bytes_total"},
        ],
    }
)

GOLDEN = """\
# Two methods

Made up.

Suite `tiny`, seeds 1-2. Mean ± 95 % interval over seeds (Student's t); a single seed has no \
interval and is not tested. Differences are paired by seed. All bytes on the air are counted: setup, rounds, final exchange, \
acknowledgements. `*`: significant, that is p < 0.05 of a paired t test, adjusted after Holm over the \
differences of accuracy in the same table. All rows: rounds=2, wire.error_feedback=true. The paper's numbers: nowhere, Table 0.

|  | seeds | accuracy [%] | trained parameters | on the air [MB] | accuracy against lora [points] | \
bytes against lora | paper, Qwen [%] |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| lora | 2 | 21.0 ± 12.7 | - | 10.00 ± 0.00 | - | 100.0 % | 68.03 |
| ours | 1 | 90.0 | 2,000 | 1.00 | +70.0 | 10.0 % | - |

## Accuracy by task [%]

|  | sort |
| --- | ---: |
| lora | 50.0 |
| ours | - |

## What holds

Nothing below is tested: a test takes differences over two seeds at least that vary.

- Order `lora` < `ours` in accuracy: `lora` < `ours` holds in the only seed (not tested).

## Rows

- **lora**: the baseline (method.kind=lora, local.speeds=[1, 2], tasks.names=[sort]; learning rate: 0.01)
- **ours**: sparse

## Missing

- ours, seed 2: it diverged
"""


@pytest.fixture
def drawn(line):
    """Three runs of four; one has failed."""
    lines = [
        line("lora", 1, accuracy=0.2, bytes_total=1e7, per_task={"sort": 0.5}),
        line("lora", 2, accuracy=0.22, bytes_total=1e7),
        line("ours", 1, accuracy=0.9, bytes_total=1e6, trained_parameters=2000.0),
    ]
    missing = ["ours, seed 2: it diverged"]
    rows, common = EXPERIMENT.planned_rows(), {"rounds": 2, "wire.error_feedback": True}
    return Drawn("two", "tiny", EXPERIMENT, rows, lines, missing, "", common, {}, {"lora": 0.01})


def test_the_document_word_for_word(drawn):
    assert build_document(drawn) == GOLDEN


def test_differences_of_one_table_are_corrected_together_and_marked(line):
    """p 0.031 of one difference alone; beside another row's it is doubled, and its mark is gone."""
    baseline, ours = (0.40, 0.49, 0.55), (0.5, 0.61, 0.73)
    lines = [line("lora", s, accuracy=a, bytes_total=1.0) for s, a in enumerate(baseline)]
    lines += [line("ours", s, accuracy=a, bytes_total=1.0) for s, a in enumerate(ours)]
    third = EXPERIMENT.model_validate(
        EXPERIMENT.model_dump() | {"rows": [*EXPERIMENT.rows, {"label": "third", "about": "noise"}]}
    )
    lines += [line("third", s, accuracy=a, bytes_total=1.0) for s, a in enumerate((0.6, 0.4, 0.5))]
    two, three = (
        build_document(Drawn("two", "tiny", of, of.planned_rows(), lines, [], "", {}, {}, {}))
        for of in (EXPERIMENT, third)
    )
    assert "| +13.3 ± 10.3 * |" in two
    assert "| +13.3 ± 10.3 |" in three
    assert "over the tests of this list (1)" in two


def test_an_axis_has_a_table_at_each_place(line):
    lines = [line("lora", 1, x, accuracy=0.5, bytes_total=1.0) for x in (4.0, 2.0)]
    rows = EXPERIMENT.planned_rows()
    text = build_document(Drawn("two", "tiny", EXPERIMENT, rows, lines, [], "devices", {}, {}, {}))
    assert text.index("## devices: 2\n") < text.index("## devices: 4\n")
    assert "Accuracy by task" not in text


def test_nothing_at_all_is_still_a_document():
    rows = EXPERIMENT.planned_rows()
    text = build_document(
        Drawn("two", "tiny", EXPERIMENT, rows, [], ["lora, seed 1: gone"], "", {}, {}, {})
    )
    assert "cannot be judged, runs are missing" in text
    assert text.endswith("- lora, seed 1: gone\n")


def test_what_the_axis_does_not_change_in_a_row_is_set_too(drawn):
    ours = drawn.rows[1].model_copy(update={"fixed": {"stop.bytes_total": None, "rounds": 5}})
    text = build_document(replace(drawn, rows=[drawn.rows[0], ours]))
    assert "- **ours**: sparse (stop.bytes_total=null, rounds=5)\n" in text


def test_what_was_set_by_hand_stands_in_the_title(drawn):
    changed = replace(drawn, overrides={"devices": 8, "rounds": 3})
    assert build_document(changed).startswith("# Two methods (changed: devices=8, rounds=3)\n")
    assert draw(EXPERIMENT.charts[0], changed).figure.layout.title.text.endswith("rounds=3)")


def test_claims_about_rows_that_were_not_run_are_counted_only(drawn):
    alone = replace(drawn, rows=drawn.rows[:1])
    assert "## What holds" not in build_document(alone)
    claims = [*EXPERIMENT.claims, Bound(row="lora", column="accuracy", at_most=100)]
    more = replace(alone, experiment=EXPERIMENT.model_copy(update={"claims": claims}))
    assert "of all but 77.6 % of seeds; largest 22.0 %" in build_document(more)
    assert "- 1 more need rows that were not run." in build_document(more)


def test_nothing_is_compared_to_a_silent_baseline(line):
    lines = [
        line("lora", 1, accuracy=0.5, bytes_total=0.0),
        line("ours", 1, accuracy=0.6, bytes_total=5.0),
    ]
    rows = EXPERIMENT.planned_rows()
    text = build_document(Drawn("two", "tiny", EXPERIMENT, rows, lines, [], "", {}, {}, {}))
    assert "| ours | 1 | 60.0 | - | 0.00 | +10.0 | - | - |" in text


def test_the_csv_has_a_line_per_run_and_all_columns(drawn):
    head, *lines = format_csv(drawn.lines).splitlines()
    assert head.startswith("row,x,seed,method,devices,rounds,accuracy,own_task,")
    assert head.endswith(",accuracy/sort,run")
    assert len(lines) == 3
    assert lines[0].startswith("lora,,1,lora,4,2,0.2,")
    assert lines[2].endswith(",,ours-1")


def test_an_unknown_column_is_reported():
    wrong = EXPERIMENT.model_copy(update={"columns": ("accuracy", "speed")})
    with pytest.raises(ScenarioError) as caught:
        check_columns(wrong, "two")
    assert caught.value.problems[0].startswith(
        "two: columns.1: got 'speed', wanted accuracy/TASK or one of accuracy, "
    )


def test_an_unknown_column_of_a_claim_is_reported():
    claim = Difference(above="lora", below="ours", below_column="speed")
    with pytest.raises(ScenarioError) as caught:
        check_columns(EXPERIMENT.model_copy(update={"claims": (claim,)}), "two")
    (problem,) = caught.value.problems
    assert problem.startswith("two: claims.0.below_column: got 'speed', wanted ")


def test_charts_are_pages_that_share_the_script(drawn, tmp_path):
    for chart in EXPERIMENT.charts:
        draw(chart, drawn).write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "accuracy-against-bytes_total.csv",
        "accuracy-against-bytes_total.html",
        "accuracy-bars.csv",
        "accuracy-bars.html",
        "accuracy-over-bytes_total.csv",
        "accuracy-over-bytes_total.html",
        "plotly.min.js",
    ]
    page = (tmp_path / "accuracy-bars.html").read_text(encoding="utf-8")
    assert 'src="plotly.min.js"' in page
    assert len(page) < 50_000
    data = (tmp_path / "accuracy-against-bytes_total.csv").read_text().splitlines()
    assert data[0] == "row,x,bytes_total,accuracy,half_width,on_front"
    assert data[1].startswith("lora,,10000000.0,0.21")
    assert data[1].endswith(",0")
    assert data[2:] == ["ours,,1000000.0,0.9,,1"]
    data = (tmp_path / "accuracy-over-bytes_total.csv").read_text().splitlines()
    assert data[0] == "row,x,bytes_total,accuracy,half_width"
    assert data[2:] == ["ours,,1000000.0,0.9,"]


def test_the_front_is_what_no_point_dominates():
    points = [(3.0, 0.5), (1.0, 0.2), (2.0, 0.6), (2.0, 0.1), (4.0, 0.6), (5.0, 0.7)]
    slow = sorted(
        p for p in points if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)
    )
    assert pareto_front(points) == slow == [(1.0, 0.2), (2.0, 0.6), (5.0, 0.7)]
