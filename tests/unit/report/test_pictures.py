"""Pictures: well-formed, alone, and every point where it belongs."""

import math
import xml.etree.ElementTree as ET

import pytest

from emulator.report.pictures import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, Axis, Curve, Picture, ticks

SVG = "{http://www.w3.org/2000/svg}"


def picture(curves, x=None, y=None, title="t"):
    axes = x or Axis("x [m]"), y or Axis("y [dB]")
    return Picture("p", title, *axes, curves, ("x", "y"), [(1, 2), (3, None)])


def drawn(shown):
    """The root of the SVG of a picture."""
    return ET.fromstring(shown.files()["p.svg"])


def dots(root):
    """Centres of the points of all curves; those of the legend have no fraction in a column of theirs."""
    return [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{SVG}circle")]


def test_the_ends_of_an_axis_are_the_ends_of_the_frame():
    root = drawn(picture([Curve("a", [(2.0, 0.0), (4.0, 1.0), (3.0, 0.5)], "dots")]))
    (first, second, third), _legend = dots(root)[:3], dots(root)[3]
    assert (first[0], second[0]) == (LEFT, WIDTH - RIGHT)
    assert third == pytest.approx(
        ((first[0] + second[0]) / 2, (first[1] + second[1]) / 2), abs=0.01
    )
    assert HEIGHT - BOTTOM > first[1] > second[1]


def test_a_logarithmic_axis_spaces_by_ratio_and_leaves_out_what_it_cannot_show():
    points = [(0.0, 1.0), (1.0, 1.0), (10.0, 1.0), (100.0, 2.0), (5.0, math.inf)]
    root = drawn(picture([Curve("a", points, "dots")], Axis("x", "log")))
    assert [x for x, _ in dots(root)[:-1]] == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]


def test_names_are_text_not_markup():
    root = drawn(picture([Curve("P(a < b) & c", [(0, 0), (1, 1)])], title="<t>"))
    texts = [node.text for node in root.iter(f"{SVG}text")]
    assert "<t>" in texts
    assert "P(a < b) & c" in texts
    assert {"x [m]", "y [dB]"} <= set(texts)


def test_lines_are_joined_and_dashed():
    curves = [Curve("a", [(0, 0), (1, 1), (2, 0)]), Curve("b", [(0, 1), (2, 1)], "dashes")]
    lines = list(drawn(picture(curves)).iter(f"{SVG}polyline"))
    assert [len(line.get("points").split()) for line in lines] == [3, 2, 2, 2]  # and the legend's
    assert [line.get("stroke-dasharray") is not None for line in lines] == [False, True] * 2


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)], [(1.0, 5.0), (2.0, 5.0)]])
def test_little_to_see_is_no_error(points):
    assert drawn(picture([Curve("a", points)])).tag == f"{SVG}svg"


def test_data_lie_beside_it():
    assert picture([]).files()["p.csv"] == b"x,y\n1,2\n3,\n"


@pytest.mark.parametrize(
    ("low", "high", "scale", "told"),
    [
        (0.0, 1.0, "linear", ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (-12.0, 36.0, "linear", ["-10", "-5", "0", "5", "10", "15", "20", "25", "30", "35"]),
        (0.0, 2.0, "log", ["1", "2", "5", "10", "20", "50", "100"]),
        (-2.0, 2.0, "log", ["0.01", "0.1", "1", "10", "100"]),
    ],
)
def test_ticks_are_round(low, high, scale, told):
    marks = ticks(low, high, scale)
    assert [text for _, text in marks] == told
    for place, text in marks:
        value = 10**place if scale == "log" else place
        assert value == pytest.approx(float(text))
