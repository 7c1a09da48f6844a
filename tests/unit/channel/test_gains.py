"""Files with positions and gains, read whole or refused with a line for every problem."""

import numpy as np
import pytest

from emulator.channel.gains import FileGain
from emulator.channel.placement import FilePlacement
from emulator.channel.tables import MOST_PROBLEMS
from emulator.errors import ScenarioError

PLACES = "device,x_m,y_m\n"
GAINS = "time_s,first,second,gain_db\n"


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "table.csv"
        path.write_text(text)
        return path

    return write


# ── positions ────────────────────────────────────────────────────────────────────────────────────


def test_positions_are_read_in_any_order(file):
    path = file(PLACES + "1, 3.5 ,-2\n\n0,0,1e2\n")
    assert FilePlacement(path=path).place(2, seed=9).tolist() == [[0.0, 100.0], [3.5, -2.0]]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["table.csv:1: got nothing, wanted the header device,x_m,y_m"]),
        ("id,x,y\n", ["table.csv:1: got id,x,y, wanted the header device,x_m,y_m"]),
        (
            PLACES + "0,1\n1,a,2\n1.5,1,2\n2,nan,inf\n",
            [
                "table.csv:2: got 2 values, wanted 3: device,x_m,y_m",
                "table.csv:3: x_m: got 'a', wanted a finite number",
                "table.csv:4: device: got '1.5', wanted a whole number",
                "table.csv:5: x_m: got 'nan', wanted a finite number",
            ],
        ),
        (
            PLACES + "0,1,1\n0,2,2\n3,1,1\n-1,1,1\n",
            [
                "table.csv:3: device: got 0 twice, wanted one row a device",
                "table.csv:4: device: got 3, wanted one of 3, counted from 0",
                "table.csv:5: device: got -1, wanted one of 3, counted from 0",
                "table.csv: got no row for device 1, wanted one",
                "table.csv: got no row for device 2, wanted one",
            ],
        ),
    ],
)
def test_wrong_positions_are_refused_line_by_line(file, text, problems):
    with pytest.raises(ScenarioError) as error:
        FilePlacement(path=file(text)).place(3, seed=0)
    assert list(error.value.problems) == problems


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ScenarioError, match=r"channel\.placement\.path: got no file .*x\.csv"):
        FilePlacement(path=tmp_path / "x.csv").place(1, seed=0)
    with pytest.raises(ScenarioError, match=r"channel\.gain\.path: .* cannot be read"):
        FileGain(path=tmp_path).bind(1)


def test_a_long_list_of_problems_is_cut(file):
    with pytest.raises(ScenarioError) as error:
        FilePlacement(path=file(PLACES + "x,0,0\n" * 50)).place(1, seed=0)
    assert len(error.value.problems) == MOST_PROBLEMS + 1
    assert error.value.problems[-1] == "... and 30 more problems"


# ── gains ────────────────────────────────────────────────────────────────────────────────────────


def test_a_gain_holds_from_its_time_to_the_next(file):
    rows = "0,0,1,-80\n0,2,0,-90\n0,1,2,-100\n2.5,0,1,-70\n2.5,1,0,-70\n2.5,0,2,-90\n2.5,1,2,-60\n"
    table = FileGain(path=file(GAINS + rows)).bind(3)
    before = np.array([[0.0, 1e-8, 1e-9], [1e-8, 0.0, 1e-10], [1e-9, 1e-10, 0.0]])
    after = np.array([[0.0, 1e-7, 1e-9], [1e-7, 0.0, 1e-6], [1e-9, 1e-6, 0.0]])
    for time_s, expected in [(0.0, before), (2.49, before), (2.5, after), (1e9, after)]:
        assert table.mean_gain(time_s) == pytest.approx(expected)
        assert table.gain(1, 2, time_s) == table.gain(2, 1, time_s) == table.mean_gain(time_s)[1, 2]
    assert table.moving
    assert not FileGain(path=file(GAINS)).bind(1).moving


@pytest.mark.parametrize(
    ("rows", "problems"),
    [
        ("", ["table.csv: got no rows, wanted a gain for every pair from time_s = 0 on"]),
        (
            "0,0,1,-80\n0,0,2,-80\n5,0,1,-80\n5,0,2,-80\n5,1,2,-80\n",
            ["table.csv: time_s = 0: got no gain for devices 1 and 2"],
        ),
        ("-1,0,1,-80\n", ["table.csv:2: time_s: got -1, wanted 0 or more"]),
        ("3,0,1,-80\n", ["table.csv:2: time_s: got 3 first, wanted 0: a run begins there"]),
        (
            "0,0,1,-80\n9,0,1,-80\n4,0,1,-80\n",
            ["table.csv:4: time_s: got 4 after 9, wanted times in order"],
        ),
        (
            "0,0,1,-80\n0,1,0,-81\n0,0,1,-80\n",
            [
                "table.csv:3: gain_db: got -81, and -80 the other way in line 2, wanted the same "
                "both ways",
                "table.csv:4: got devices 0 and 1 again, wanted one row a time",
            ],
        ),
        (
            "0,0,3,-80\n0,1,1,-80\n0,0,1,80\n",
            [
                "table.csv:2: got devices 0 and 3, wanted two of 3, counted from 0",
                "table.csv:3: got device 1 with itself, wanted two devices",
                "table.csv:4: gain_db: got 80, wanted 0 or less (a loss has the other sign)",
            ],
        ),
    ],
)
def test_wrong_gains_are_refused_line_by_line(file, rows, problems):
    with pytest.raises(ScenarioError) as error:
        FileGain(path=file(GAINS + rows)).bind(3)
    assert list(error.value.problems) == problems
