"""A scenario is one value: complete, frozen, and equal after it is written and read."""

import json
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from emulator.core.names import is_name
from emulator.core.types.adapter import LostCoordinates
from emulator.learning.backbone.load import CausalLM, SentenceEncoder, Tiny
from emulator.learning.tasks.hub import Hub, HubTask
from emulator.learning.tasks.jsonl import JsonLines
from emulator.learning.tasks.synthetic import Synthetic
from emulator.learning.training import Local
from emulator.methods import Lora, SparseOrthogonal
from emulator.network.channel.access import IdealAccess, OfdmaAccess
from emulator.network.channel.ideal import Ideal
from emulator.network.channel.losses import BernoulliLoss
from emulator.network.channel.model import Wireless
from emulator.network.topology.clusters import ClusterMesh
from emulator.network.topology.graphs import RandomRegular, Ring
from emulator.network.wire import WireFormat
from emulator.scenario.load import dump_scenario, preset_folder, read_scenario
from emulator.scenario.schema import Scenario
from emulator.scenario.sections import ByMethod

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
PRESETS = sorted(path.stem for path in (CONFIGS / "channels").glob("*.yaml"))

# ── round trip ──────────────────────────────────────────────────────────────────────────────────


def _read_back(scenario: Scenario, folder: Path) -> Scenario:
    path = folder / "back.yaml"
    path.write_text(dump_scenario(scenario), encoding="utf-8")
    reading = read_scenario(path)
    assert reading.notes == ()
    return reading.scenario


def test_there_are_presets():
    assert {"ideal", "lossy_link", "paper"} <= set(PRESETS)
    assert sorted(path.stem for path in preset_folder().glob("*.yaml")) == PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_loads_and_comes_back(read, tmp_path, preset):
    scenario = read(f"channel: {preset}").scenario
    assert _read_back(scenario, tmp_path) == scenario


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_loads_and_comes_back(tmp_path, path):
    reading = read_scenario(path)
    assert reading.notes == ()
    assert _read_back(reading.scenario, tmp_path) == reading.scenario


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_has_its_baseline(path):
    assert read_scenario(path, ["method.kind=lora"]).scenario.method.kind == "lora"


def test_the_quickstart_scales(tmp_path):
    scenario = read_scenario(CONFIGS / "quickstart.yaml", ["devices=64", "rounds=2"]).scenario
    assert (scenario.devices, scenario.rounds) == (64, 2)


def scenarios() -> st.SearchStrategy[Scenario]:
    """Scenarios over many sections, all of them possible."""
    positive = st.floats(1e-30, 1e30)
    text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1)
    names = st.lists(text.filter(is_name), min_size=1, max_size=3, unique=True).map(tuple)
    hub = st.builds(Hub, tasks=names.map(
        lambda found: tuple(
            HubTask(name=n, dataset=n, prompt=f"{{{n}}}\nAnswer: ", answer_column=n) for n in found
        )
    ))  # fmt: skip
    losses = st.builds(
        BernoulliLoss,
        probability=st.floats(0, 1, exclude_max=True),
        symmetry=st.sampled_from(["independent", "joint"]),
    )
    wireless = st.builds(
        Wireless,
        losses=losses,
        max_power_w=positive,
        deadline_s=positive,
        late=st.sampled_from(["wait", "lose"]),
        arq_max_tries=st.integers(1, 1000),
    )
    air = st.one_of(
        st.tuples(st.just(Ideal()), st.just(IdealAccess())),
        st.tuples(wireless, st.builds(OfdmaAccess, bandwidth_hz=positive)),
    )
    learnt = st.one_of(
        st.tuples(
            st.one_of(
                st.just(Tiny()), st.builds(CausalLM, name=text.map(lambda name: f"package:{name}"))
            ),
            st.one_of(
                st.builds(Synthetic, names=st.just(("sort", "mirror"))),
                st.builds(JsonLines, folder=st.just(Path("/data")), names=names),
            ),
        ),
        st.tuples(st.just(SentenceEncoder(name="package:x")), hub),
    )
    method = st.one_of(
        st.builds(Lora, learning_rate=st.floats(1e-9, 1)),
        st.builds(SparseOrthogonal, density=st.floats(1e-6, 1), learning_rate=st.floats(1e-9, 1)),
    )
    return st.builds(
        lambda air, learnt, **fields: Scenario(
            name="s", channel=air[0], access=air[1], backbone=learnt[0], tasks=learnt[1], **fields
        ),
        air,
        learnt,
        seed=st.integers(0, 2**63 - 1),
        devices=st.integers(2, 512).map(lambda half: 2 * half),
        rounds=st.integers(1, 10**9),
        method=method,
        topology=st.builds(
            ByMethod, degree=st.integers(1, 3), max_collision_rate=st.floats(0, 1)
        ),
        wire=st.builds(WireFormat, mtu_bytes=st.integers(256, 9000)),
        local=st.builds(Local, steps=st.integers(1, 1000), step_s=st.floats(0, 1e30)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scenarios")


@settings(max_examples=60, deadline=None)
@given(scenario=scenarios())
def test_a_dumped_scenario_reads_back_to_the_same_value(folder, scenario):
    assert _read_back(scenario, folder) == scenario


def test_a_dump_is_complete_and_plain(read):
    document = yaml.safe_load(dump_scenario(read("channel: paper").scenario))
    assert set(document) == set(Scenario.model_fields)
    assert "preset" not in document["channel"]


# ── the value itself ───────────────────────────────────────────────────────────────────────────────


def test_defaults_are_a_whole_scenario():
    scenario = Scenario(name="s")
    assert scenario.run_name == "s-sparse_orthogonal-1"
    assert isinstance(scenario.channel, Ideal)


def test_a_scenario_is_frozen():
    with pytest.raises(ValidationError):
        Scenario(name="s").rounds = 3


def test_the_graph_follows_the_method_unless_it_is_said():
    by_method = ByMethod(degree=4, max_collision_rate=0.2)
    sparse = Scenario(name="s", topology=by_method)
    assert sparse.graph == ClusterMesh(max_collision_rate=0.2)
    lora = Scenario(name="s", topology=by_method, method=Lora())
    assert lora.graph == RandomRegular(degree=4)
    assert Scenario(name="s", topology=Ring(), method=Lora()).graph == Ring()


def test_the_run_name_holds_name_method_and_seed():
    assert Scenario(name="a.b-c", seed=7, method=Lora()).run_name == "a.b-c-lora-7"


def test_the_schema_speaks_of_every_section():
    schema = json.loads(json.dumps(Scenario.model_json_schema()))
    assert set(schema["properties"]) == set(Scenario.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name"]


def test_every_field_of_the_scenario_is_described():
    for name, field in Scenario.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"stop": {"bytes_total": 10}}, "stop"),
        ({"clock": {"kind": "paced"}}, "clock.kind: paced"),
        ({"local": {"flop_per_s": [1e9]}}, "local.flop_per_s"),
        ({"method": {"kind": "stacking"}}, "method.kind: stacking"),
        ({"method": {"kind": "experts_once"}}, "method.kind: experts_once"),
        ({"method": {"kind": "sparse_orthogonal", "recluster_every": 2}}, "method.recluster_every"),
        ({"method": {"kind": "sparse_orthogonal", "exchange_every": 2}}, "method.exchange_every"),
    ],
)
def test_what_needs_all_devices_at_one_point_is_refused_where_nobody_waits(changes, key):
    alone = {"name": "s", "schedule": {"kind": "asynchronous"}}
    assert Scenario.model_validate(alone).schedule.kind == "asynchronous"
    with pytest.raises(ValueError, match=f"got asynchronous with {key}, wanted one of the two"):
        Scenario.model_validate(alone | changes)


@pytest.mark.parametrize(
    ("changes", "key", "other"),
    [
        ({}, "accelerator: cpu", "accelerator"),
        ({"schedule": {"kind": "asynchronous"}}, "schedule.kind: asynchronous", "schedule.kind"),
        ({"clock": {"kind": "paced"}}, "clock.kind: paced", "clock.kind"),
    ],
)
def test_nccl_is_refused_where_it_cannot_be(changes, key, other):
    ours = {"name": "s", "accelerator": "cuda", "backend": "nccl"}
    assert Scenario.model_validate(ours).backend == "nccl"
    without = {k: v for k, v in ours.items() if changes or k != "accelerator"}
    wanted = f"backend: got nccl with {key}, wanted gloo, or another {other}"
    with pytest.raises(ValueError, match=wanted):
        Scenario.model_validate({**without, **changes})


# ── lost coordinates ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "policies"),
    [
        ("{kind: stacking}", ("renormalise", "last_received")),
        ("{kind: sparse_orthogonal, aggregation: printed}", ("renormalise",)),
        ("{kind: sparse_orthogonal, aggregation: printed_24}", ("renormalise",)),
        ("{kind: lori, aggregation: mask_mean}", ()),
        ("{kind: fedsa}", ()),
    ],
)
def test_a_policy_that_a_merge_cannot_follow_is_refused(read, problems, method, policies):
    for policy in get_args(LostCoordinates):
        text = f"method: {method}\nwire: {{lost_coordinates: {policy}}}\n"
        if policy in policies:
            (line,) = problems(text)
            assert line.startswith(f"s.yaml: wire.lost_coordinates: got {policy} ")
            assert "wanted" in line
        else:
            assert read(text).scenario.wire.lost_coordinates == policy


def test_interleaved_int8_is_refused_in_one_line(problems):
    (line,) = problems("wire: {value_type: int8, interleave: true}\n")
    assert line.startswith("s.yaml: wire.interleave: got true with value_type int8, wanted")


@pytest.mark.parametrize("kind", ["tdma", "aloha"])
def test_a_trace_has_no_slots_and_the_least_power_no_margin(tmp_path, kind):
    trace = tmp_path / "link.trace"
    trace.write_text("1\n2\n")
    channel = {"kind": "wireless", "power": {"kind": "fixed", "power_w": 0.1}}
    recorded = channel | {"rate": {"kind": "trace", "path": str(trace)}}
    access = {"kind": kind, "bandwidth_hz": 1e6}
    access |= {"send_probability": 0.2} if kind == "aloha" else {}
    with pytest.raises(ValueError, match=rf"got {kind} with channel\.rate\.kind trace"):
        Scenario.model_validate({"name": "s", "channel": recorded, "access": access})
    edge = channel | {"power": {"kind": "least_power"}, "rate": {"kind": "nr_cqi"}}
    edge |= {"losses": {"kind": "logistic"}}
    with pytest.raises(ValueError, match=r"got least_power with losses\.kind logistic"):
        Scenario.model_validate({"name": "s", "channel": edge, "access": access})


def test_aloha_serves_one_receiver_at_a_time(problems):
    (line,) = problems(
        "access: {kind: aloha, bandwidth_hz: 1.0e+6, send_probability: 0.2, cast: broadcast}\n"
    )
    assert line.startswith("s.yaml: access.cast: got 'broadcast', wanted one of unicast")
