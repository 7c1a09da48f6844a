"""Inference with the experts of a device of a finished run, on new prompts.

The run's folder holds all that is needed: `scenario.yaml` names the frozen backbone and the router,
`experts/device-NN/` holds the experts and the fitted router. No data is read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.core.places import is_file
from emulator.core.protocols.tasks import Learner
from emulator.core.run_files import ExpertRow, read_adapted_modules, read_experts
from emulator.core.types.arrays import FloatArray
from emulator.core.types.data import Example
from emulator.core.types.result import Expert
from emulator.learning.adapters.export import (
    check_adapter,
    read_expert_tensors,
    read_model_differences,
)
from emulator.learning.backbone.load import Backbone
from emulator.learning.evaluation import check_finite
from emulator.learning.routing.mixture import expert_gates
from emulator.learning.routing.oracle import Oracle
from emulator.learning.tasks.learner import can_distinguish, learner_for, unknown_share
from emulator.learning.tasks.synthetic import Synthetic
from emulator.scenario.load import read_scenario
from emulator.scenario.schema import Scenario

CHANGEABLE = ("router.top_m", "router.temperature", "backbone.name")
"""The keys that may differ from the run: those of the gates, and the place of the backbone."""


@dataclass(frozen=True)
class Reply:
    """An answer and the gates of all experts, in their order.

    unread: describes the part of the prompt that did not fit the model. unknown: the share of its tokens
    that the tokenizer does not know.
    """

    prompt: str
    answer: str
    gates: tuple[tuple[str, float], ...]
    unread: str = ""
    unknown: float = 0.0

    @property
    def answered_by(self) -> tuple[str, ...]:
        """The experts whose gates round to at least 0.001; none where the backbone answered alone."""
        return tuple(name for name, gate in self.gates if gate >= 0.0005)


class Respondent:
    """One device of a finished run, loaded for inference."""

    def __init__(
        self,
        scenario: Scenario,
        backbone: Backbone,
        experts: Mapping[str, Expert],
        fitted: Mapping[str, FloatArray],
    ) -> None:
        """experts: by name. fitted: the router's tensors, empty under a method without routing."""
        self._scenario = scenario
        self._backbone = backbone
        self._learner: Learner = learner_for(backbone)
        self._experts = experts
        self._fitted = fitted
        self._mixture = scenario.routing.mixture(backbone, tuple(experts.values()))

    def reply(
        self,
        prompt: str,
        choices: Sequence[str],
        max_new_tokens: int | None,
        task: str | None = None,
    ) -> Reply:
        """Return one of the choices or, without choices, generated text.

        max_new_tokens: by default half of the model's input length. task: the true task, where it is
        known; its experts answer and the router is not used.
        Raises ScenarioError where the backbone cannot give such an answer or the router does not fit.
        """
        limit = self._backbone.max_tokens
        wanted = limit // 2 if max_new_tokens is None else max_new_tokens
        if not 0 < wanted < limit:
            raise ScenarioError(
                [
                    f"--max-tokens: got {wanted}, wanted 1 ... {limit - 1} (backbone.max_tokens less one)"
                ]
            )
        if not choices and self._backbone.family != "causal_lm":
            raise ScenarioError(
                ["--choices: got none, wanted some (a sentence encoder cannot generate)"]
            )
        if choices and not can_distinguish(self._backbone, choices):
            raise ScenarioError(
                [
                    f"--choices: got {', '.join(choices)}, which the tokenizer of "
                    f"{self._backbone.name} cannot tell apart within backbone.max_tokens "
                    f"({limit}), wanted different ones"
                ]
            )
        kind, answer = ("choice", choices[0]) if choices else ("text", "")
        question = Example("", prompt, answer, tuple(choices), kind=kind)
        gates_E = self._gates(question) if task is None else self._gates_of(task)
        self._mixture.set_gates(torch.from_numpy(gates_E[None]))
        answer = self._learner.answer(self._mixture.module, question, wanted)
        gates = tuple(zip(self._experts, gates_E.tolist(), strict=True))
        unread = self._learner.unread(question, wanted)
        return Reply(prompt, answer, gates, unread, unknown_share(self._backbone, [prompt]))

    def _gates(self, question: Example) -> FloatArray:
        """Gates over the experts [E]; all are 1 under a method without routing."""
        scenario = self._scenario
        if not scenario.method.routes:
            return torch.ones(len(self._experts)).numpy()
        if isinstance(scenario.router, Oracle):
            known = ", ".join(sorted({expert.task for expert in self._experts.values()}))
            raise ScenarioError(
                [f"--task: got none under router.kind oracle, wanted the true one of {known}"]
            )
        if isinstance(scenario.tasks, Synthetic):  # its router was fitted without choices
            question = replace(question, choices=(), kind="text")
        features = scenario.routing.features(self._backbone, [question])
        try:
            gates_ST = scenario.router.gates(self._fitted, features)
        except (KeyError, ValueError):  # tensors of another name or shape than this router's
            raise ScenarioError(
                [
                    f"router: got {scenario.router.kind} with settings that do not fit the stored "
                    "router, wanted those of the run, or others in temperature and top_m only"
                ]
            ) from None
        gates_SE: FloatArray = expert_gates(
            gates_ST, scenario.tasks.names, tuple(self._experts.values())
        )
        first: FloatArray = gates_SE[0]
        return first

    def _gates_of(self, task: str) -> FloatArray:
        """The gates of a known task [E]."""
        known = sorted({expert.task for expert in self._experts.values()})
        if not self._scenario.method.routes:
            kind = self._scenario.method.kind
            raise ScenarioError(
                [f"--task: got {task!r} under {kind}, wanted none: one adapter for all tasks"]
            )
        if task not in known:
            raise ScenarioError([f"--task: got {task!r}, wanted one of {', '.join(known)}"])
        names = self._scenario.tasks.names
        one_hot_T = np.array([[name == task for name in names]], dtype=np.float32)
        first: FloatArray = expert_gates(one_hot_T, names, tuple(self._experts.values()))[0]
        return first


def load_respondent(run: Path, device: int, overrides: Sequence[str] = ()) -> Respondent:
    """Load a device of a finished run; overrides are `key.path=value`, e.g. `router.top_m=2`.

    Raises ScenarioError for a folder that holds no run, a device it lacks, and files that are broken;
    EmulatorError for experts or a router with NaN.
    """
    torch.set_num_threads(1)
    if not is_file(run / "scenario.yaml"):
        raise ScenarioError([f"{run}: got no scenario.yaml there, wanted the folder of a run"])
    for override in overrides:
        if override.split("=")[0] not in CHANGEABLE:
            raise ScenarioError(
                [f"--set: got {override}, wanted {' or '.join(CHANGEABLE)}: all else is the run's"]
            )
    scenario = read_scenario(run / "scenario.yaml", overrides).scenario
    if not 0 <= device < scenario.devices:
        raise ScenarioError([f"--device: got {device}, wanted 0 ... {scenario.devices - 1}"])
    folder = run / "experts" / f"device-{device:02d}"
    fitted = _read_router(folder / "router.safetensors") if scenario.method.routes else {}
    backbone = scenario.backbone.load()
    routed_to = scenario.tasks.names if scenario.method.routes else ()
    return Respondent(scenario, backbone, _read_experts(folder, backbone, routed_to), fitted)


def format_reply(reply: Reply) -> str:
    """Format a reply as four lines, and one more each for an unread or an unknown part of the prompt."""
    by = " + ".join(reply.answered_by) or "the backbone alone"
    gates = ", ".join(f"{name} {gate:.3f}" for name, gate in reply.gates)
    lines = [
        reply.prompt,
        f"answer       {reply.answer}",
        f"answered by  {by}",
        f"gates        {gates}",
    ]
    if reply.unread:
        lines.append(
            f"not read     {reply.unread}: longer than backbone.max_tokens less the answer"
        )
    if reply.unknown:
        lines.append(f"not known    {100 * reply.unknown:.0f} % of the prompt, to the backbone")
    return "\n  ".join(lines) + "\n"


def check_texts(texts: Iterable[str], where: str) -> None:
    """Raise ScenarioError for a text of the command line that is not in UTF-8."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ScenarioError([f"{where}: got {text!a}, wanted text in UTF-8"]) from None


def read_prompts(file: Path) -> list[str]:
    """Read one prompt per line, without empty lines. Raises ScenarioError for no text file."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ScenarioError([f"--file: got {file}, wanted a text file to read ({why})"]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ScenarioError(
            [f"--file: got {file}, wanted text in UTF-8 (line {line}: {error.reason})"]
        ) from None
    return [line for line in lines if line.strip()]


def _read_experts(folder: Path, backbone: Backbone, tasks: Sequence[str]) -> dict[str, Expert]:
    """Read a device's experts by folder name, in gate order. tasks: the tasks of the router, if any."""
    path = folder / "experts.json"
    rows = read_experts(_check_file(path))
    for index, row in enumerate(rows):
        if tasks and row.task not in tasks:
            wanted = f"one of {', '.join(tasks)}"
            raise ScenarioError([f"{path}: {index}.task: got {row.task!r}, wanted {wanted}"])
        if row.form != rows[0].form:
            wanted = f"{rows[0].form} as in 0.form"
            raise ScenarioError([f"{path}: {index}.form: got {row.form!r}, wanted {wanted}"])
    return {row.folder: _read_expert(folder / row.folder, row, backbone) for row in rows}


def _read_expert(folder: Path, row: ExpertRow, backbone: Backbone) -> Expert:
    """Read one expert and check its tensors against the backbone."""
    whole = row.form == "weights"
    path = folder / ("model.safetensors" if whole else "adapter_model.safetensors")
    data = _read_bytes(path)
    try:
        if whole:
            tensors = read_model_differences(data, backbone.model)
        else:
            tensors = read_expert_tensors(data)
            check_adapter(tensors, backbone.model, read_adapted_modules(folder))
    except ValueError as error:
        raise ScenarioError([f"{path}: got {error}, wanted an expert of a run"]) from None
    check_finite(tensors, str(path))
    return Expert(row.task, row.samples, 1.0 if whole else row.scaling, tensors, row.form)


def _read_router(path: Path) -> dict[str, FloatArray]:
    """Read the tensors of the fitted router."""
    try:
        fitted: dict[str, FloatArray] = load(_read_bytes(path))
    except SafetensorError as error:
        raise ScenarioError([f"{path}: got no safetensors ({error}), wanted a router"]) from None
    for name, values in fitted.items():  # thresholds may be infinite
        if np.isnan(values).any():
            raise EmulatorError(f"{path}: got NaN in {name}, wanted numbers")
    return fitted


def _read_bytes(path: Path) -> bytes:
    return _check_file(path).read_bytes()


def _check_file(path: Path) -> Path:
    if not is_file(path):
        raise ScenarioError([f"{path}: no such file, wanted the folder of a finished run"])
    return path
