"""Line of sight: probabilities against the standard, states reciprocal, constant and correlated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from emulator.network.channel.line_of_sight import (
    AlwaysLineOfSight,
    InfLineOfSight,
    InhMixedLineOfSight,
    InhOpenLineOfSight,
    LineOfSight,
    NeverLineOfSight,
    UmaLineOfSight,
    UmiLineOfSight,
)

LEAST_P = 1e-3
LAWS = [
    AlwaysLineOfSight(),
    NeverLineOfSight(),
    UmiLineOfSight(),
    UmaLineOfSight(),
    UmaLineOfSight(h_ut_m=23.0),
    InhOpenLineOfSight(),
    InhMixedLineOfSight(),
    *[InfLineOfSight(variant=variant) for variant in ("sl", "dl", "sh", "dh")],
]


def test_probabilities_of_the_standard(references):
    tables = references("path_loss")
    distance_m = np.array(tables["tr38901"]["distances_2d_m"])
    for law, name in [
        (UmiLineOfSight(), "UMi"),
        (UmaLineOfSight(), "UMa_hut1.5"),
        (InhOpenLineOfSight(), "InH_open"),
        (InhMixedLineOfSight(), "InH_mixed"),
    ]:
        expected = tables["line_of_sight"]["rows"][name]
        assert law.probability(distance_m) == pytest.approx(expected, abs=1e-8), name
    factories = [t for t in tables["tr38901"]["rows"] if t["scenario"].startswith("InF")]
    assert len(factories) == 8
    for table in factories:
        variant = table["scenario"].removeprefix("InF-").lower()
        law = InfLineOfSight(variant=variant, h_bs_m=table["h_bs_m"], h_ut_m=table["h_ut_m"])
        expected = table["P_LOS_default_clutter"]
        assert law.probability(distance_m) == pytest.approx(expected, abs=1e-8), variant


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.kind)
def test_probabilities_are_probabilities_and_near_devices_see_each_other_best(law):
    probability = law.probability(np.linspace(0.0, 600.0, 5000))
    assert np.all((probability >= 0.0) & (probability <= 1.0))
    assert np.all(probability <= probability[0])


def test_offices_and_streets_are_clear_at_arms_length():
    assert UmiLineOfSight().probability(np.array([0.0, 18.0])).tolist() == [1.0, 1.0]
    assert InhOpenLineOfSight().probability(np.array([0.0, 5.0])).tolist() == [1.0, 1.0]
    assert InhMixedLineOfSight().probability(np.array([0.0, 1.2])).tolist() == [1.0, 1.0]
    at_6 = InhMixedLineOfSight().probability(np.array([6.0]))
    assert at_6 == pytest.approx(np.exp(-4.8 / 4.7))
    at_50 = InhOpenLineOfSight().probability(np.array([50.0]))
    assert at_50 == pytest.approx(0.54 * np.exp(-1 / 211.7))


def test_a_high_antenna_of_a_macro_cell_sees_more():
    distance_m = np.array([200.0])
    low, high = UmaLineOfSight(), UmaLineOfSight(h_ut_m=23.0)
    more = 1.0 + 1.25 * 8.0 * np.exp(-200.0 / 150.0)
    assert high.probability(distance_m) == pytest.approx(low.probability(distance_m) * more)


def test_clutter_has_the_values_of_the_scenario():
    law = InfLineOfSight(variant="sl", clutter_density=0.5, clutter_size_m=4.0)
    assert law.probability(np.array([8.0])) == pytest.approx(0.25)
    assert (law.field_m, InfLineOfSight(variant="sl").field_m) == (2.0, 5.0)
    with pytest.raises(ValidationError, match=r"clutter_height_m: got 9, wanted more than h_ut_m"):
        InfLineOfSight(variant="sh", clutter_height_m=9.0)


# ── states ───────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(0, 2**32))
def test_a_state_is_reciprocal_and_stays(seed):
    positions_m = np.random.default_rng(seed).uniform(0.0, 200.0, (7, 2))
    forth = positions_m[:, None], positions_m[None]
    seen = UmiLineOfSight().bind(seed).between(*forth)
    assert np.array_equal(seen, seen.T)
    assert np.array_equal(seen, UmiLineOfSight().bind(seed).between(*forth))
    assert np.diag(seen).all()


def test_always_and_never():
    positions_m = np.array([[0.0, 0.0], [500.0, 0.0]])
    pairs = positions_m[:, None], positions_m[None]
    assert AlwaysLineOfSight().bind(1).between(*pairs).all()
    assert not NeverLineOfSight().bind(1).between(*pairs).any()


@pytest.mark.parametrize("distance_m", [25.0, 50.0, 150.0])
def test_the_share_of_pairs_in_sight_is_the_probability(distance_m):
    law, pairs = UmiLineOfSight(), 1500
    ends = np.array([[0.0, 0.0]]), np.array([[distance_m, 0.0]])
    seen = sum(int(law.bind(seed).between(*ends)[0]) for seed in range(pairs))
    expected = float(law.probability(np.array([distance_m]))[0])
    assert stats.binomtest(seen, pairs, expected).pvalue > LEAST_P


def test_a_step_changes_the_state_seldom_and_a_walk_often():
    law, first = UmiLineOfSight(), np.zeros((1, 2))
    ways_m = np.array([[50.0, 0.0], [50.0, 1.0], [50.0, 400.0]])
    kept = np.zeros(2)
    for seed in range(300):
        states = law.bind(seed)
        seen = [states.field.between(first, way_m[None])[0] < 0.0 for way_m in ways_m]
        kept += [seen[0] == seen[1], seen[0] == seen[2]]
    step, walk = kept / 300
    # Two normals that correlate by c have the same sign in a share 1/2 + asin(c)/pi of cases.
    assert step == pytest.approx(0.5 + np.arcsin(np.exp(-1 / 50)) / np.pi, abs=0.06)
    assert walk == pytest.approx(0.5, abs=0.1)


def test_every_law_is_a_kind_of_the_scenario():
    adapter = TypeAdapter(LineOfSight)
    for law in LAWS:
        assert adapter.validate_python(law.model_dump()) == law
