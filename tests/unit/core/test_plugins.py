"""A user's own class by its import path: accepted if it follows the protocol, otherwise its gaps are reported."""

import importlib

import pytest

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.core.plugins import check_part, find_misfits, load
from emulator.core.protocols.access import Access
from emulator.core.protocols.channel import ChannelModel
from emulator.core.protocols.method import AdapterMethod, Method
from emulator.core.protocols.router import Router
from emulator.core.protocols.tasks import TaskSuite
from emulator.core.protocols.topology import Topology
from emulator.network.channel.ideal import IdealChannel
from emulator.scenario.error_messages import list_variants
from emulator.scenario.load import dump_scenario, read_scenario
from emulator.scenario.schema import (
    AccessSection,
    ChannelSection,
    MethodSection,
    RouterSection,
    TopologySection,
)

MODULE = """
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from emulator.network.channel.ideal import IdealChannel
from emulator.methods import Lora
from emulator.network.topology.graphs import Ring


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str


class Urban(Section):
    floors: float = Field(default=5.0, gt=0, description="height of the houses")

    def bind(self, devices, seed):
        return IdealChannel(devices)


class Gossip(Section):
    topology_by_default: ClassVar[str] = "random_regular"
    routes: ClassVar[bool] = False

    def start(self, ctx):
        return Lora().start(ctx)


class Circle(Section):
    def links(self, round_index, survey, seed):
        return Ring().links(round_index, survey, seed)


class Deaf(Section):
    pass


class Half(Section):
    def bind(self, devices, seed):
        return HalfBound(devices)


class HalfBound(IdealChannel):
    def at(self, time_s):
        return Still()


class Still:
    positions_m = mean_gain = in_range = None


class Hasty(Section):
    def bind(self, devices):
        return IdealChannel(devices)


class Kindless(BaseModel):
    def bind(self, devices, seed):
        return IdealChannel(devices)


class Plain:
    kind = "plain"
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """The user's module, importable while the test runs."""
    import sys

    (tmp_path / "house_of_a_user.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("house_of_a_user", None)


OWN = (
    "channel: {kind: 'house_of_a_user:Urban', floors: 7}\n"
    "method: {kind: 'house_of_a_user:Gossip'}\n"
    "topology: {kind: 'house_of_a_user:Circle'}\n"
)


def test_own_classes_fill_their_sections(read):
    scenario = read(OWN).scenario
    assert type(scenario.channel).__name__ == "Urban"
    assert scenario.channel.floors == 7.0
    assert isinstance(scenario.channel.bind(3, 1), IdealChannel)
    assert scenario.graph is scenario.topology
    assert scenario.run_name == "s-Gossip-1"


def test_a_scenario_with_own_classes_comes_back(read, tmp_path):
    scenario = read(OWN).scenario
    path = tmp_path / "back.yaml"
    path.write_text(dump_scenario(scenario))
    assert "house_of_a_user:Urban" in path.read_text()
    assert read_scenario(path).scenario == scenario


def test_an_override_brings_an_own_class(read):
    scenario = read("", "channel.kind=house_of_a_user:Urban", "channel.floors=3").scenario
    assert scenario.channel.floors == 3.0


REFUSED = {
    "no such module": (
        "nobody_has_this:Urban",
        "wanted an importable module (No module named 'nobody_has_this')",
    ),
    "no such class": ("house_of_a_user:Rural", "wanted a class in house_of_a_user ("),
    "no model": ("house_of_a_user:Plain", "wanted a pydantic model with a field kind: str"),
    "no class": ("math:sin", "wanted a pydantic model with a field kind: str"),
    "no method": ("house_of_a_user:Deaf", "wanted a ChannelModel: it lacks bind(self, devices"),
    "other arguments": (
        "house_of_a_user:Hasty",
        "it lacks bind(self, devices, seed) instead of bind(self, devices)",
    ),
    "no kind": ("house_of_a_user:Kindless", "it lacks a field kind: str"),
}


@pytest.mark.parametrize(("path", "line"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_path_and_what_is_missing(problems, path, line):
    (problem,) = problems(f"channel: {{kind: '{path}'}}")
    assert problem.startswith(f"s.yaml: channel: got '{path}', wanted ")
    assert line in problem


def test_everything_missing_is_named(problems):
    (problem,) = problems("method: {kind: 'house_of_a_user:Deaf'}")
    assert "topology_by_default" in problem
    assert "routes" in problem
    assert "start(self, ctx" in problem


def test_a_wrong_field_of_an_own_class_names_its_path(problems):
    (problem,) = problems("channel: {kind: 'house_of_a_user:Urban', floors: -1}")
    assert problem.startswith("s.yaml: channel.floors: got -1, wanted ")
    (problem,) = problems("channel: {kind: 'house_of_a_user:Urban', flors: 1}")
    assert problem.startswith("s.yaml: channel.flors: got an unknown key")


@pytest.mark.parametrize(
    ("section", "protocol"),
    [
        (ChannelSection, ChannelModel),
        (MethodSection, Method),
        (TopologySection, Topology),
        (AccessSection, Access),
        (RouterSection, Router),
    ],
)
def test_the_built_in_classes_honour_their_protocol(section, protocol):
    for kind, model in list_variants(section).items():
        if kind != "by_method":  # it selects a graph and is none itself
            assert find_misfits(model, protocol) == [], kind


def test_load_gives_the_class():
    assert load("house_of_a_user:Urban", ChannelModel).__name__ == "Urban"
    with pytest.raises(ValueError, match="wanted a TaskSuite: it lacks"):
        load("house_of_a_user:Urban", TaskSuite)


# ── known defects ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [".relative:X", ":X"])
def test_a_path_that_names_no_module_is_reported(problems, path):
    (problem,) = problems(f"channel: {{kind: '{path}'}}")
    assert problem.startswith(f"s.yaml: channel: got '{path}', wanted an importable module")


BROKEN = {
    "def (\n": "SyntaxError: invalid syntax, fails_of_a_user.py:1",
    "\nraise RuntimeError('not\\n\\ntoday')\n": (
        "RuntimeError: not today, fails_of_a_user.py:2 in <module>"
    ),
    "def f():\n    return nix\n\n\nf()\n": (
        "NameError: name 'nix' is not defined, fails_of_a_user.py:2 in f"
    ),
    "import a_module_that_nobody_has\n": (
        "ModuleNotFoundError: No module named 'a_module_that_nobody_has', fails_of_a_user.py:1 in "
        "<module>"
    ),
    "import json\njson.loads('{')\n": (
        "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1), "
        "fails_of_a_user.py:2 in <module>"
    ),
    "import sys\nsys.exit(3)\n": "SystemExit: 3, fails_of_a_user.py:2 in <module>",
}


@pytest.mark.parametrize(("text", "cause"), BROKEN.items(), ids=BROKEN.values())
def test_a_module_that_fails_at_import_is_reported_with_its_line(problems, tmp_path, text, cause):
    (tmp_path / "fails_of_a_user.py").write_text(text)
    importlib.invalidate_caches()
    (problem,) = problems("channel: {kind: 'fails_of_a_user:X'}")
    assert problem == (
        "s.yaml: channel: got 'fails_of_a_user:X', whose module fails when it is imported, wanted one "
        f"that does not ({cause})"
    )
    assert "\n" not in problem


def test_a_wrong_field_of_an_own_class_says_what_is_wanted(problems):
    (problem,) = problems("channel: {kind: 'house_of_a_user:Urban', floors: -1}")
    assert "wanted a number in (0, inf) (height of the houses)" in problem
    (problem,) = problems("channel: {kind: 'house_of_a_user:Urban', flors: 1}")
    assert "did you mean 'floors'?" in problem


def test_an_own_kind_drops_the_fields_it_lacks(read):
    reading = read("method: {kind: lora, learning_rate: 0.1}", "method.kind=house_of_a_user:Gossip")
    assert reading.notes == (
        "method.kind=house_of_a_user:Gossip drops method.learning_rate "
        "(house_of_a_user:Gossip has no such field)",
    )


def test_an_incomplete_part_of_a_method_is_reported():
    class Half:
        def setup(self):
            yield

    reported = "method.kind: got 'mine:Idea', whose start() gives an object of Half without exchange, finish, "
    with pytest.raises(EmulatorError) as caught:
        check_part(Half(), AdapterMethod, "mine:Idea")
    assert str(caught.value).startswith(reported + "own_expert, experts")


def test_an_own_channel_whose_snapshots_lack_something_is_reported(read):
    scenario = read("channel: {kind: 'house_of_a_user:Half'}\n").scenario
    with pytest.raises(ScenarioError) as caught:
        scenario.bind_channel()
    assert caught.value.problems == (
        "channel.kind: got 'house_of_a_user:Half', whose bind().at() gives an object of Still without "
        "bit_per_s, required_power_w; wanted a protocols.Snapshot",
    )
