"""Every family of path loss: against the tables of the standards, in range and out of it."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from emulator.core.errors import ScenarioError
from emulator.network.channel.pathloss import (
    FreeSpacePathLoss,
    LogDistancePathLoss,
    Macro128PathLoss,
    NoPathLoss,
    PathLoss,
    PowerLawPathLoss,
)
from emulator.network.channel.pathloss_base import ValidityWarning
from emulator.network.channel.tr37885 import SidelinkHighwayPathLoss, SidelinkUrbanPathLoss
from emulator.network.channel.tr38901 import InfPathLoss, InhPathLoss, UmaPathLoss, UmiPathLoss

TABLE_DB = 1e-6
"""Reference values are rounded to six decimals."""

CELLS = {"UMi-StreetCanyon": UmiPathLoss, "UMa": UmaPathLoss}
STATES = {"LOS": True, "NLOS": False}


@pytest.fixture(scope="module")
def tr38901(references):
    return references("path_loss")["tr38901"]


def loss_db(family, distance_2d_m, seen=True):
    distance_2d_m = np.asarray(distance_2d_m, dtype=np.float64)
    return family.path_loss_db(distance_2d_m, np.full(distance_2d_m.shape, seen))


def family_of(table, **fields):
    """The family of a reference table with the heights that it was made with."""
    heights = {"fc_ghz": table["fc_GHz"], "h_bs_m": table["h_bs_m"], "h_ut_m": table["h_ut_m"]}
    name = table["scenario"]
    if name in CELLS:
        return CELLS[name](**heights, **fields)
    if name == "InH-Office":
        return InhPathLoss(**heights)
    return InfPathLoss(variant=name.removeprefix("InF-").lower(), **heights)


# ── without a state ──────────────────────────────────────────────────────────────────────────────


def test_path_loss_formulas():
    distance_m = np.array([0.0, 0.5, 1.0, 10.0, 250.0])
    clamped_m = np.array([1.0, 1.0, 1.0, 10.0, 250.0])
    paper_db = loss_db(PowerLawPathLoss(), distance_m)
    assert 10 ** (-paper_db / 10) == pytest.approx(1e-4 * clamped_m**-2, rel=1e-12)
    friis_db = loss_db(FreeSpacePathLoss(fc_ghz=2.4), distance_m)
    wavelength_m = 299_792_458.0 / 2.4e9
    expected = (wavelength_m / (4 * np.pi * clamped_m)) ** 2
    assert 10 ** (-friis_db / 10) == pytest.approx(expected, rel=1e-12)
    measured = LogDistancePathLoss(reference_db=60.0, reference_m=10.0, exponent=3.5)
    assert loss_db(measured, [10.0, 100.0]) == pytest.approx([60.0, 95.0])
    assert loss_db(NoPathLoss(), distance_m).tolist() == [0.0] * 5


def test_free_space_agrees_with_the_usual_constant():
    # 92.45 + 20 lg f_GHz + 20 lg d_km, rounded to two decimals in the books.
    at_1km_db = loss_db(FreeSpacePathLoss(fc_ghz=5.9), [1000.0])[0]
    assert at_1km_db == pytest.approx(92.45 + 20 * math.log10(5.9), abs=0.005)


def test_the_macro_cell_of_many_papers(references):
    for row in references("closed_forms")["macro_128"]["rows"]:
        assert loss_db(Macro128PathLoss(), row["d_m"]) == pytest.approx(row["PL_dB"], abs=TABLE_DB)


# ── the standards ────────────────────────────────────────────────────────────────────────────────


def test_cellular_tables_to_the_last_decimal(tr38901):
    distance_2d_m = np.array(tr38901["distances_2d_m"])
    worst_db = compared = 0
    for table in tr38901["rows"]:
        rises_m = table["h_bs_m"] - table["h_ut_m"]
        most_m = {"InH-Office": 150.0}.get(table["scenario"], math.inf)
        valid = np.hypot(distance_2d_m, rises_m) <= most_m
        for column in set(table) & {"LOS", "NLOS", "LOS_c3e8", "NLOS_c3e8"}:
            state, _, rounded = column.partition("_")
            light = {"speed_of_light": "standard" if rounded else "exact"}
            got_db = loss_db(family_of(table, **light if table["scenario"] in CELLS else {}),
                             distance_2d_m[valid], STATES[state])  # fmt: skip
            worst_db = max(worst_db, np.abs(got_db - np.array(table[column])[valid]).max())
            compared += got_db.size
    assert compared > 400
    assert worst_db < TABLE_DB


def test_the_speed_of_light_matters_only_beyond_the_breakpoint(tr38901):
    for table in tr38901["rows"]:
        if table["scenario"] in CELLS:
            near_m, far_m = table["breakpoint_2d_m"] * 0.99, table["breakpoint_2d_m"] * 1.01
            exact = loss_db(family_of(table, speed_of_light="exact"), [near_m, far_m])
            standard = loss_db(family_of(table, speed_of_light="standard"), [near_m, far_m])
            assert exact[0] == standard[0]
            assert 0.0 < standard[1] - exact[1] <= 0.006


def test_sidelink_tables_to_the_last_decimal(references):
    table = references("path_loss")["tr37885"]["rows"]
    for family, name in [
        (SidelinkUrbanPathLoss, "urban_los"),
        (SidelinkHighwayPathLoss, "highway_los"),
    ]:
        model = family(fc_ghz=table["fc_GHz"])
        assert loss_db(model, table["d3d_m"]) == pytest.approx(table[name], abs=TABLE_DB)
        assert loss_db(model, table["d3d_m"], False) == pytest.approx(table["nlos"], abs=TABLE_DB)
        uneven = family(fc_ghz=table["fc_GHz"], first_height_m=3.0, second_height_m=0.75)
        d2d_m = np.sqrt(np.square(table["d3d_m"]) - 2.25**2)
        assert loss_db(uneven, d2d_m) == pytest.approx(table[name], abs=TABLE_DB)


STANDARDS = [
    UmiPathLoss(fc_ghz=3.5),
    UmaPathLoss(fc_ghz=3.5),
    InhPathLoss(fc_ghz=5.2),
    *[InfPathLoss(fc_ghz=3.5, variant=variant) for variant in ("sl", "dl", "sh", "dh")],
    SidelinkUrbanPathLoss(fc_ghz=5.9),
    SidelinkHighwayPathLoss(fc_ghz=5.9),
]
STATELESS = [
    PowerLawPathLoss(),
    FreeSpacePathLoss(fc_ghz=28.0),
    LogDistancePathLoss(reference_db=40.0, exponent=3.0),
    NoPathLoss(),
    Macro128PathLoss(),
]


@pytest.mark.parametrize("family", STANDARDS + STATELESS, ids=lambda family: family.kind)
@pytest.mark.parametrize("seen", [True, False])
def test_path_loss_never_falls_with_distance(family, seen):
    distance_m = np.geomspace(10.0, 140.0, 300)
    assert np.all(np.diff(loss_db(family, distance_m, seen)) >= 0.0)


@pytest.mark.parametrize("family", STANDARDS, ids=lambda family: family.kind)
def test_what_is_in_the_way_costs(family):
    distance_m = np.geomspace(10.0, 140.0, 300)
    assert np.all(loss_db(family, distance_m, False) >= loss_db(family, distance_m))


@pytest.mark.parametrize("family", STATELESS, ids=lambda family: family.kind)
def test_families_without_a_state_ignore_it(family):
    distance_m = np.geomspace(1.0, 1e4, 50)
    assert np.array_equal(loss_db(family, distance_m, False), loss_db(family, distance_m))


@given(st.floats(10.0, 5000.0), st.sampled_from([UmiPathLoss, UmaPathLoss]), st.booleans())
def test_each_path_takes_the_loss_of_its_own_state(distance_m, family, seen):
    model = family(fc_ghz=2.4)
    pair = model.path_loss_db(np.full(2, distance_m), np.array([seen, not seen]))
    assert pair[0] == loss_db(model, distance_m, seen)
    assert pair[1] == loss_db(model, distance_m, not seen)


# ── ranges ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("family", "beyond", "nearest", "said"),
    [
        (UmiPathLoss(fc_ghz=3.5), 7.0, 10.0, "umi: distance_2d_m: got 7, wanted 10 to 5000"),
        (UmaPathLoss(fc_ghz=3.5), 6e3, 5e3, "uma: distance_2d_m: got 6000, wanted 10 to 5000"),
        (InhPathLoss(fc_ghz=3.5, h_bs_m=1.0), 400.0, 150.0, "distance_3d_m: got 400, wanted 1 to 150"),
        (InfPathLoss(fc_ghz=3.5, variant="sl"), 601.0, 600.0, "inf: distance_3d_m: got 601"),
    ],
)  # fmt: skip
def test_a_distance_out_of_range_counts_as_the_nearest_with_one_warning(
    family, beyond, nearest, said
):
    model = family.model_copy()
    with pytest.warns(ValidityWarning, match=said):
        clamped = loss_db(model, beyond)
    assert clamped == loss_db(model, nearest)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loss_db(model, beyond) == clamped  # warned once
    with pytest.warns(ValidityWarning):
        loss_db(type(model)(**family.model_dump()), beyond)  # another object warns again


@pytest.mark.parametrize(
    ("family", "nearest", "said"),
    [
        (UmiPathLoss(fc_ghz=0.4), UmiPathLoss(fc_ghz=0.5), "fc_ghz: got 0.4, wanted 0.5 to 100"),
        (InhPathLoss(fc_ghz=140.0), InhPathLoss(fc_ghz=100.0), "inh: fc_ghz: got 140"),
        (UmiPathLoss(fc_ghz=2.4, h_ut_m=1.0), UmiPathLoss(fc_ghz=2.4), "h_ut_m: got 1, wanted 1.5 to"),
        (UmaPathLoss(fc_ghz=2.4, h_ut_m=20.0), UmaPathLoss(fc_ghz=2.4, h_ut_m=13.0), "to 13"),
    ],
)  # fmt: skip
def test_beyond_its_range_a_field_counts_as_the_nearest(family, nearest, said):
    with pytest.warns(ValidityWarning, match=said):
        clamped = loss_db(family, 100.0)
    assert clamped == loss_db(nearest, 100.0)


def test_a_device_and_itself_are_no_reason_to_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for family in STANDARDS:
            assert np.isfinite(loss_db(family, [0.0, 20.0])).all()


def test_having_warned_changes_no_model():
    model, other = UmiPathLoss(fc_ghz=3.5), UmiPathLoss(fc_ghz=3.5)
    with pytest.warns(ValidityWarning):
        loss_db(model, 1.0)
    assert model == other
    assert model.model_dump() == other.model_dump()
    assert hash(model) == hash(other)


# ── shadowing of their own ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("family", "sigma_db", "decorrelation_m"),
    [
        (UmiPathLoss(fc_ghz=3.5), (4.0, 7.82), (10.0, 13.0)),
        (UmaPathLoss(fc_ghz=3.5), (4.0, 6.0), (37.0, 50.0)),
        (InhPathLoss(fc_ghz=3.5), (3.0, 8.03), (10.0, 6.0)),
        (InfPathLoss(fc_ghz=3.5, variant="sl"), (4.3, 5.7), (10.0, 10.0)),
        (InfPathLoss(fc_ghz=3.5, variant="dh"), (4.3, 4.0), (10.0, 10.0)),
        (SidelinkUrbanPathLoss(fc_ghz=5.9), (3.0, 4.0), (10.0, 13.0)),
        (Macro128PathLoss(), (8.0, 8.0), (50.0, 50.0)),
    ],
)
def test_shadowing_as_the_standards_have_it(family, sigma_db, decorrelation_m):
    states = np.array([True, False])
    assert family.sigma_db(states).tolist() == list(sigma_db)
    assert family.decorrelation_m(states).tolist() == list(decorrelation_m)


@pytest.mark.parametrize("family", STATELESS[:-1], ids=lambda family: family.kind)
def test_a_family_without_shadowing_names_the_field_to_set(family):
    with pytest.raises(ScenarioError, match=r"shadowing\.sigma_db: got none with path_loss\.kind"):
        family.sigma_db(np.array([True]))
    with pytest.raises(ScenarioError, match=r"shadowing\.decorrelation_m: got none .* wanted a"):
        family.decorrelation_m(np.array([True]))


def test_every_family_is_a_kind_of_the_scenario():
    adapter = TypeAdapter(PathLoss)
    for family in STANDARDS + STATELESS:
        assert adapter.validate_python(family.model_dump()) == family
