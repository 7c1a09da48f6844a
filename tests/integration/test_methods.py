"""Every method and option lives its whole life, says what it should and leaves what it promises."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from torch import Tensor
from typer.testing import CliRunner

from emulator.cli.app import app
from emulator.learning.routing.mixture import RoutedModel

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["devices=4", "rounds=2", "local.steps=3", "local.batch_size=8", "topology.degree=2"]
SMALL += ["tasks.train_samples=60", "tasks.test_samples=4"]


class Run:
    """A finished run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
        self.ledger = pq.read_table(folder / "ledger.parquet").to_pylist()
        self.metrics = pq.read_table(folder / "metrics.parquet").to_pylist()

    def values(self, metric: str) -> list[float]:
        return [row["value"] for row in self.metrics if row["metric"] == metric]

    def rounds_on_air(self, traffic: str) -> set[int]:
        return {row["round_index"] for row in self.ledger if row["traffic"] == traffic}

    def experts(self, device: int = 0) -> list[str]:
        listed = json.loads((self.folder / f"experts/device-{device:02d}/experts.json").read_text())
        return [expert["task"] for expert in listed]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Run a method with these overrides, once for all tests that ask for the same."""

    @cache
    def start(method: str, *overrides: str) -> Run:
        out = tmp_path_factory.mktemp("runs") / "run"
        sets = [*SMALL, f"method.kind={method}", *overrides]
        arguments = ["run", str(ROOT / "configs" / "quickstart.yaml"), "--driver", "one_process"]
        arguments += ["--quiet", "--out", str(out), *(x for s in sets for x in ("--set", s))]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return Run(out)

    return start


@pytest.mark.parametrize("method", ["lora", "lori", "ffa", "fedsa", "alternating"])
def test_averaging_methods_speak_every_round_and_end_with_one_adapter(
    run: Callable[..., Run], method: str
) -> None:
    done = run(method)
    assert done.rounds_on_air("in_cluster") == {0, 1}
    assert done.rounds_on_air("inter_cluster") == set()
    assert done.experts() == ["all"]
    assert done.summary["routing_accuracy"] is None


def test_local_is_silent(run: Callable[..., Run]) -> None:
    done = run("local")
    assert done.ledger == []
    assert done.summary["bytes"]["total"] == 0
    assert json.loads((done.folder / "topology.json").read_text())["links"] == []


def test_ffa_and_fedsa_send_their_share_of_lora(run: Callable[..., Run]) -> None:
    payload = {m: run(m).summary["bytes"]["payload"] for m in ("lora", "ffa", "fedsa")}
    setup = 1700  # the introductions that all three send
    assert payload["ffa"] + payload["fedsa"] == pytest.approx(payload["lora"], abs=setup)


def test_fedsa_keeps_b_at_home(run: Callable[..., Run]) -> None:
    done = run("fedsa", "rounds=12", "local.steps=1", "topology.kind=complete")
    own = [
        load_file(done.folder / f"adapters/device-0{i}/adapter_model.safetensors") for i in (0, 1)
    ]
    name = next(name for name in own[0] if "lora_A" in name)
    near = abs(own[0][name] - own[1][name]).max()
    apart = abs(
        own[0][name.replace("lora_A", "lora_B")] - own[1][name.replace("lora_A", "lora_B")]
    ).max()
    assert near < apart


@pytest.mark.parametrize("adapter", ["sparse_orthogonal", "lora"])
def test_experts_once_is_silent_until_the_last_round(run: Callable[..., Run], adapter: str) -> None:
    done = run("experts_once", f"method.adapter={adapter}", "tasks.names=[reverse,sort]")
    assert done.rounds_on_air("in_cluster") == {1}
    assert done.rounds_on_air("inter_cluster") == {2}
    assert done.experts() == ["reverse", "sort"]


def test_the_control_can_follow_an_ablation(run: Callable[..., Run]) -> None:
    """The same masks, experts and top-k as the method itself has with these options."""
    options = {"mask_selection": "random", "density_allocation": "uniform", "active_ranks": 2}
    ours = run("sparse_orthogonal", *(f"method.{key}={value}" for key, value in options.items()))
    once = run("experts_once", f"method.options={json.dumps(options)}")
    plain = run("experts_once")
    assert once.values("density/model.layers.0.self_attn.q_proj") == ours.values(
        "density/model.layers.0.self_attn.q_proj"
    )
    assert once.values("warmup_loss") == [] != plain.values("warmup_loss")
    assert once.summary["bytes"]["in_cluster"] < ours.summary["bytes"]["in_cluster"]


def test_lora_by_task_averages_with_its_task_alone(run: Callable[..., Run]) -> None:
    done = run("lora_by_task", "tasks.names=[reverse,sort]")
    pairs = {(r["sender"], r["receiver"]) for r in done.ledger if r["traffic"] == "in_cluster"}
    assert pairs == {(0, 2), (2, 0), (1, 3), (3, 1)}
    assert done.experts(3) == ["reverse", "sort"]


@pytest.mark.parametrize(
    "option",
    [
        "mask_selection=random",
        "density_allocation=uniform",
        "density_allocation=printed",
        "projection=gaussian",
        "aggregation=printed",
        "aggregation=printed_24",
        "active_ranks=2",
    ],
)
def test_options_change_what_is_learnt(run: Callable[..., Run], option: str) -> None:
    plain = run("sparse_orthogonal", "method.mask_warmup_steps=3")
    other = run("sparse_orthogonal", "method.mask_warmup_steps=3", f"method.{option}")
    weights = [
        load_file(x.folder / "adapters/device-00/adapter_model.safetensors") for x in (plain, other)
    ]
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])


def test_the_printed_densities_keep_everything(run: Callable[..., Run]) -> None:
    done = run("sparse_orthogonal", "method.density_allocation=printed")
    densities = [r["value"] for r in done.metrics if r["metric"].startswith("density/")]
    assert set(densities) == {1.0}


def test_disjoint_masks_never_collide(run: Callable[..., Run]) -> None:
    done = run(
        "sparse_orthogonal",
        "method.mask_selection=disjoint",
        "topology.max_collision_rate=1.0",
        "method.mask_warmup_steps=2",
        "topology.kind=complete",
    )
    assert done.values("collision_rate") == [0.0] * 4
    assert set(done.values("collided_mask_share")) == {0.0}


def test_a_projection_of_ones_own_makes_an_expert_of_every_device(run: Callable[..., Run]) -> None:
    done = run(
        "sparse_orthogonal",
        "method.projection_by=device",
        "tasks.names=[reverse,sort]",
        "method.lora_rank=4",
    )
    assert done.experts() == ["reverse", "sort", "reverse", "sort"]
    folders = [
        p.parent.name for p in (done.folder / "experts/device-00").glob("*/adapter_config.json")
    ]
    assert len(folders) == 4
    assert max(done.values("projection_overlap")) < 1e-5


def test_clusters_trade_as_often_as_asked(run: Callable[..., Run]) -> None:
    alone = ("rounds=3", "topology.max_collision_rate=0")
    done = run("sparse_orthogonal", "method.exchange_every=1", *alone)
    assert done.rounds_on_air("inter_cluster") == {0, 1, 3}
    plain = run("sparse_orthogonal", *alone)
    assert plain.rounds_on_air("inter_cluster") == {3}
    assert plain.summary["accuracy"] == done.summary["accuracy"]


def test_projections_sent_whole_are_the_ones_their_seed_gives(run: Callable[..., Run]) -> None:
    seeded = run("sparse_orthogonal")
    whole = run("sparse_orthogonal", "method.send_projection=matrix")
    for path in (seeded.folder / "experts/device-00").rglob("adapter_model.safetensors"):
        same = whole.folder / path.relative_to(seeded.folder)
        assert path.read_bytes() == same.read_bytes()
    assert whole.summary["accuracy"] == seeded.summary["accuracy"]
    assert whole.summary["bytes"]["in_cluster"] == seeded.summary["bytes"]["in_cluster"]
    entries = 8 * 3 * (6 * 128 + 256)  # r rows over the inputs of q, k, v, o, gate, up and down
    told = (
        4 * 3 * 4 * entries
    )  # four devices in range of one another, each told by the three others
    more = whole.summary["bytes"]["setup"] - seeded.summary["bytes"]["setup"]
    assert told < more < 1.1 * told


@pytest.mark.parametrize("method", ["lora", "experts_once", "sparse_orthogonal", "local"])
def test_a_limit_makes_the_round_in_which_it_is_found_the_last(
    run: Callable[..., Run], method: str
) -> None:
    done = run(method, "rounds=4", "stop.emulated_s=0.1", "tasks.names=[reverse,sort]")
    assert done.summary["rounds"] == 1
    assert done.rounds_on_air("in_cluster") == (set() if method == "local" else {0})
    answers = [r for r in done.metrics if r["metric"] == "exact_match"]
    assert {r["round_index"] for r in answers} == {0}


def test_a_limit_that_is_not_reached_costs_words_only(run: Callable[..., Run]) -> None:
    free = run("sparse_orthogonal")
    limited = run("sparse_orthogonal", "stop.bytes_total=1e9", "stop.energy_j=1e9")
    assert limited.summary["rounds"] == 2
    assert limited.summary["accuracy"] == free.summary["accuracy"]
    sent = [r.summary["bytes"]["in_cluster"] for r in (limited, free)]
    assert sent[0] == pytest.approx(sent[1], rel=0.01)  # other fades, other acknowledgements
    assert limited.summary["bytes"]["setup"] == free.summary["bytes"]["setup"]
    assert limited.summary["bytes"]["control"] > free.summary["bytes"]["control"] == 0
    assert limited.rounds_on_air("control") == {0, 1}


def test_bytes_stop_a_run_before_its_last_round(run: Callable[..., Run]) -> None:
    rounds = 4
    free = run("lora", f"rounds={rounds}").summary["bytes"]["total"]
    stopped = run("lora", f"rounds={rounds}", f"stop.bytes_total={free // 2}").summary
    assert stopped["rounds"] == 3  # half of it was spent before the third round's exchange
    assert free // 2 < stopped["bytes"]["total"] < free


def test_stacking_adds_up_devices_of_different_ranks(run: Callable[..., Run]) -> None:
    """c_max for ranks 4 and 2 of 8 by Eq 7; all hear all, so all end with one and the same model."""
    full = run("stacking", "rounds=1").summary["trained_parameters"]
    afford = [full * share * 120 / 8 for share in (0.5, 0.25)]
    done = run(
        "stacking",
        "method.budget=device",
        f"local.compute_budget={afford}",
        "local.batch_size=8",
        "tasks.train_samples=120",
        "topology.kind=complete",
        "channel=ideal",
    )
    assert done.values("trained_parameters") == [full / 2, full / 4] * 2
    files = [done.folder / f"adapters/device-0{i}/adapter_model.safetensors" for i in range(4)]
    assert len({file.read_bytes() for file in files}) == 1
    poor = ["method.kind=stacking", "method.budget=device", f"local.compute_budget=[{full}]"]
    order = ["run", str(ROOT / "configs" / "quickstart.yaml"), "--driver", "one_process", *poor]
    result = CliRunner().invoke(app, [*order, "--out", str(done.folder / "poor")])
    assert result.exit_code == 1
    assert f"wanted at least {full / 8:.0f}, those of one rank" in result.output
    told = {(r["sender"], r["values"]) for r in done.ledger if r["traffic"] == "in_cluster"}
    assert told == {(0, full / 2), (1, full / 4), (2, full / 2), (3, full / 4)}


def test_a_listed_graph_carries_any_method(run: Callable[..., Run]) -> None:
    done = run("lora", "topology.kind=edges", "topology.edges=[[0,3],[1,2]]")
    pairs = {(r["sender"], r["receiver"]) for r in done.ledger if r["traffic"] == "in_cluster"}
    assert pairs == {(0, 3), (3, 0), (1, 2), (2, 1)}


def test_error_feedback_changes_what_is_reported_and_costs_no_bytes(
    run: Callable[..., Run],
) -> None:
    common = ("wire.value_type=int8", "rounds=3")
    plain = run("lora", *common)
    fed = run("lora", *common, "wire.error_feedback=true")
    assert fed.summary["bytes"]["payload"] == plain.summary["bytes"]["payload"]
    name = "adapters/device-00/adapter_model.safetensors"
    weights = [load_file(done.folder / name) for done in (plain, fed)]
    assert any((weights[0][key] != weights[1][key]).any() for key in weights[0])


def test_controls_are_answered_on_the_own_task(run: Callable[..., Run]) -> None:
    done = run("sparse_orthogonal", "evaluation.controls=[alone,summed,averaged,diluted]")
    for control in ("alone", "summed", "averaged", "diluted"):
        found = done.values(f"control/{control}")
        assert len(found) == 4
        assert done.summary["asked"][f"control_{control}"] == pytest.approx(sum(found) / 4)
    assert "control_averaged" not in run("sparse_orthogonal").summary["asked"]
    aligned = [r for r in done.metrics if r["metric"].startswith("alignment/")]
    assert len(aligned) == 4 * 3 / 2
    assert max(abs(r["value"]) for r in aligned) < 1e-5


def test_the_diluted_control_weighs_the_own_experts_as_the_mean_of_all_does(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    gates: list[tuple[float, ...]] = []
    set_gates = RoutedModel.set_gates

    def note(model: RoutedModel, gates_SE: Tensor) -> None:
        gates.append(tuple(gates_SE[0].tolist()))
        set_gates(model, gates_SE)

    monkeypatch.setattr(RoutedModel, "set_gates", note)
    controls = "evaluation.controls=[alone,summed,averaged,diluted]"
    run("sparse_orthogonal", "method.projection_by=device", "tasks.names=[reverse,sort]", controls)
    of_device_0 = [(0.5, 0.0, 0.5, 0.0), (1.0,) * 4, (0.25,) * 4, (0.25, 0.0, 0.25, 0.0)]
    assert any(gates[i : i + 4] == of_device_0 for i in range(len(gates)))


@pytest.mark.parametrize(("density", "rate"), [(1.0, 1.0), (0.1, 0.03)])
def test_lori_counts_what_its_neighbours_write_too(
    run: Callable[..., Run], density: float, rate: float
) -> None:
    done = run("lori", f"method.density={density}", "method.mask_warmup_steps=2")
    assert done.values("collision_rate") == pytest.approx([rate] * 4, abs=0.02)
