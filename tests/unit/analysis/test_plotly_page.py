"""Pictures: every curve with its points and look, the page beside its data and its library."""

import csv
import io

import pytest

from emulator.analysis.plotly_page import PLOTLY, Curve, Picture, PlotAxis


def picture(curves, x=PlotAxis("x [m]"), y=PlotAxis("y [dB]")) -> Picture:
    return Picture("p", "P(a < b)", x, y, curves, ("x", "y"), [(1, 2), (3, None)])


@pytest.mark.parametrize(
    ("drawn", "mode", "dash"),
    [("line", "lines", None), ("dashes", "lines", "dash"), ("dots", "markers", None)],
)
def test_a_curve_has_its_points_and_its_look(drawn, mode, dash):
    (trace,) = picture([Curve("a", [(2.0, 0.0), (4.0, 1.0), (3.0, 0.5)], drawn)]).figure.data
    assert (trace.name, trace.mode, trace.line.dash) == ("a", mode, dash)
    assert (list(trace.x), list(trace.y)) == ([2.0, 4.0, 3.0], [0.0, 1.0, 0.5])


def test_axes_have_titles_and_scales():
    layout = picture([Curve("a", [])], x=PlotAxis("d [m]", "log")).figure.layout
    assert (layout.xaxis.title.text, layout.xaxis.type) == ("d [m]", "log")
    assert (layout.yaxis.title.text, layout.yaxis.type) == ("y [dB]", "linear")
    assert layout.title.text == "P(a < b)"


def test_a_page_its_data_and_its_library():
    drawn = picture([Curve("a", [(0, 0), (1, 1)]), Curve("b", [(0, 1)], "dashes")])
    files = drawn.render()
    assert sorted(files) == sorted(["p.html", "p.csv", PLOTLY])
    assert f'src="{PLOTLY}"' in files["p.html"].decode()
    assert list(csv.reader(io.StringIO(files["p.csv"].decode()))) == [
        ["x", "y"], ["1", "2"], ["3", ""],
    ]  # fmt: skip
    assert drawn.render() == files
