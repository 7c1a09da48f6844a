"""Every router in a whole run: what is measured of it, and what it puts on the air."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from emulator.device import live
from emulator.learning.evaluation import Answering, Measurement
from emulator.network.shim import Shim
from emulator.runtime.drivers import one_process
from emulator.runtime.drivers.lifecycle import LifeOutcome
from emulator.scenario.schema import Scenario
from emulator.scenario.world import build_world

NAMES = ("reverse", "sort")
OWN_ROUTER = """
from emulator.learning.routing.uniform import OpenGates


class FirstTask(OpenGates):
    kind: str

    def layer_gate(self, experts):
        return None

    def gates(self, fitted, features):
        gates = super().gates(fitted, features)
        gates[:, 1:] = 0
        return gates
"""

Told = Mapping[tuple[int, str, str], float]


def lives(**sections: object) -> tuple[Told, dict[int, LifeOutcome]]:
    """Two devices, two tasks, hardly any learning: (device, task, metric) -> value, and outcomes."""
    small: dict[str, object] = {
        "name": "small",
        "devices": 2,
        "rounds": 1,
        "tasks": {"kind": "synthetic", "names": NAMES, "train_samples": 60, "test_samples": 12},
        "local": {"steps": 2, "batch_size": 4},
        "method": {
            "kind": "sparse_orthogonal",
            "mask_warmup_steps": 1,
            "density_allocation": "uniform",
        },
        "topology": {"kind": "complete"},  # one cluster: statistics travel once
        "evaluation": {"paraphrases": "answers", "unseen_tasks": ["mirror", "rotate"]},
    }
    scenario = Scenario.model_validate(small | sections)
    world = build_world(scenario)
    airs = {i: Shim(i, scenario.wire, world.access, world.channel) for i in range(2)}
    outcomes = one_process.run_lives({i: live(world, i) for i in range(2)}, airs, lambda *_: None)
    told = {
        (record.device, record.task, record.metric): record.value
        for outcome in outcomes.values()
        for record in outcome.result.records
    }
    return told, outcomes


READING = {
    "ridge_lda": {"kind": "ridge_lda", "gate_layer": 0, "abstain": 0.05},
    "diagonal": {"kind": "ridge_lda", "gate_layer": 0, "scatter": "diagonal", "abstain": 0.05},
    "cosine": {"kind": "cosine", "gate_layer": 0, "abstain": 0.05},
    "bag_of_words": {"kind": "bag_of_words", "abstain": 0.05},
}


@pytest.mark.parametrize(("method", "times"), [("sparse_orthogonal", 1), ("lori", 2)])
def test_devices_with_the_same_experts_and_router_answer_once(
    monkeypatch: pytest.MonkeyPatch, method: str, times: int
) -> None:
    asked: list[str] = []
    answered = Answering._measure_task

    def counted(self: Answering, *args: Any) -> Iterator[Measurement]:
        asked.append(args[2])
        return answered(self, *args)

    monkeypatch.setattr(Answering, "_measure_task", counted)
    options = {"mask_warmup_steps": 1} if method == "sparse_orthogonal" else {}
    wire = {"value_type": "float32"}
    told, _ = lives(method={"kind": method, **options}, evaluation={}, wire=wire)
    assert sorted(asked) == sorted(NAMES * times)
    for task in NAMES:
        assert (0, task, "exact_match") in told
        if method == "sparse_orthogonal":
            assert told[0, task, "exact_match"] == told[1, task, "exact_match"]


@pytest.mark.parametrize("router", READING.values(), ids=READING)
def test_a_router_that_reads_is_measured_in_full(router: dict[str, object]) -> None:
    told, outcomes = lives(router=router)
    for device in (0, 1):
        for task in NAMES:
            row = [told[device, task, f"routed_to/{to}"] for to in NAMES]
            assert sum(row) + told[device, task, "abstained"] == pytest.approx(1)
            assert told[device, task, "routing_accuracy"] == told[device, task, f"routed_to/{task}"]
            assert told[device, task, "routing_accuracy"] >= 0.5
            assert 0 <= told[device, task, "routing_accuracy_paraphrased"] <= 1
            assert (device, task, "exact_match_paraphrased") in told
        for task in ("mirror", "rotate"):
            assert told[device, task, "abstention_auroc"] > 0.5
            assert 0 <= told[device, task, "abstained_unseen"] <= 1
        assert outcomes[device].result.router["threshold"].shape == (1,)


def test_what_no_device_is_trained_on_is_known_as_such() -> None:
    told, _ = lives(router={"kind": "ridge_lda", "gate_layer": 0, "abstain": 0.02})
    assert all(told[device, "mirror", "abstained_unseen"] > 0.9 for device in (0, 1))
    assert all(told[device, "mirror", "abstention_auroc"] > 0.95 for device in (0, 1))
    # in other words the task is strange, and the backbone knows it by its name
    assert all(told[device, "sort", "exact_match_paraphrased"] > 0.9 for device in (0, 1))


def test_the_oracle_is_right_and_turns_away_what_is_no_task() -> None:
    told, _ = lives(router={"kind": "oracle"})
    for device in (0, 1):
        assert {told[device, task, "routing_accuracy"] for task in NAMES} == {1.0}
        assert told[device, "mirror", "abstained_unseen"] == 1
        assert told[device, "mirror", "abstention_auroc"] == 1


@pytest.mark.parametrize("kind", ["uniform", "arrow"])
def test_open_gates_are_no_routes(kind: str) -> None:
    told, _ = lives(router={"kind": kind})
    assert (0, "sort", "exact_match") in told
    assert not any("rout" in metric or "abstained" in metric for _, _, metric in told)
    assert told[0, "mirror", "abstention_auroc"] == 0.5


def test_statistics_shrink_with_the_scatter() -> None:
    """Payload of the setup, from one device to its leader: float32 over p = 128 and two tasks."""

    def paid(router: dict[str, object]) -> int:
        _, outcomes = lives(router=router, evaluation={})
        links = [record for outcome in outcomes.values() for record in outcome.link_records]
        return sum(record.payload_bytes for record in links if record.traffic == "setup")

    nothing = paid({"kind": "oracle"})
    assert paid({"kind": "ridge_lda", "scatter": "none"}) - nothing == 4 * (2 + 2 * 128 + 2)
    full = 4 * (2 + 2 * 128 + 2 + 128 * 129 // 2)
    assert paid({"kind": "ridge_lda", "scatter": "full"}) - nothing == full


def test_own_routers_are_taken_by_their_import_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "router_of_a_user.py").write_text(OWN_ROUTER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    told, _ = lives(router={"kind": "router_of_a_user:FirstTask"})
    assert told[0, "reverse", "routing_accuracy"] == 1
    assert told[0, "sort", "routing_accuracy"] == 0


WRONG = {
    "learnt": ({"unseen_tasks": ["sort"]}, "evaluation.unseen_tasks: got ['sort'], wanted tasks"),
    "twice": ({"unseen_tasks": ["echo", "echo"]}, "each once"),
}


@pytest.mark.parametrize(("evaluation", "line"), WRONG.values(), ids=WRONG)
def test_unseen_tasks_are_learnt_by_no_device(evaluation: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match="evaluation") as caught:
        Scenario.model_validate({"name": "s", "evaluation": evaluation})
    assert line in str(caught.value)


def test_other_wordings_are_required_where_they_are_asked_for() -> None:
    tasks = {"kind": "jsonl", "folder": "x", "names": ["a"]}
    sections = {"name": "s", "tasks": tasks, "evaluation": {"paraphrases": "routing"}}
    with pytest.raises(ValueError, match="wanted other words for at least one task"):
        Scenario.model_validate(sections)
    strange = tasks | {"paraphrases": {"b": [{"prompt": "Say: {prompt}"}]}}
    with pytest.raises(ValueError, match=r"tasks.paraphrases: got \['b'\]"):
        Scenario.model_validate({"name": "s", "tasks": strange})
