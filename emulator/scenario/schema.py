"""One complete, frozen, typed description of a run.

Every section is the frozen model of the room it configures; here they are only united by `kind`.
Reading a file is `emulator.scenario.load`; what is wrong with it, in words, `emulator.scenario.error_messages`.
"""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from emulator.core.errors import ScenarioError
from emulator.core.names import Name, wrong_names
from emulator.core.plain_numbers import out_of_bounds
from emulator.core.plugins import missing_in, plugin_or
from emulator.core.protocols.access import Access, BoundAccess
from emulator.core.protocols.channel import BoundChannel, ChannelModel, Snapshot
from emulator.core.protocols.method import Method
from emulator.core.protocols.router import Router
from emulator.core.protocols.tasks import TaskSuite
from emulator.core.protocols.topology import Topology
from emulator.core.section import Section
from emulator.learning.backbone.load import CausalLM, SentenceEncoder, Tiny
from emulator.learning.evaluation import Evaluation, Routing
from emulator.learning.routing import Arrow, BagOfWords, Cosine, Oracle, RidgeLda, Uniform
from emulator.learning.tasks.hub import Hub
from emulator.learning.tasks.jsonl import JsonLines
from emulator.learning.tasks.synthetic import Synthetic
from emulator.learning.training import Local
from emulator.methods import (
    Alternating,
    ExpertsOnce,
    Fedsa,
    Ffa,
    Full,
    FullOracle,
    LocalOnly,
    Lora,
    LoraByTask,
    Lori,
    SparseOrthogonal,
    Stacking,
)
from emulator.network.channel.access import IdealAccess, OfdmaAccess, TdmaAccess, bound_access
from emulator.network.channel.aloha import AlohaAccess
from emulator.network.channel.consistency import band_problems
from emulator.network.channel.ideal import Ideal
from emulator.network.channel.model import Wireless
from emulator.network.topology.clusters import ClusterMesh, TaskMesh
from emulator.network.topology.graphs import (
    Complete,
    ErdosRenyi,
    Isolated,
    ListedEdges,
    RandomFeasible,
    RandomGeometric,
    RandomRegular,
    Ring,
)
from emulator.network.wire import WireFormat
from emulator.scenario.sections import (
    Asynchronous,
    ByMethod,
    Paced,
    Stop,
    Synchronous,
    Virtual,
)

BackboneSection = Annotated[Tiny | CausalLM | SentenceEncoder, Field(discriminator="kind")]
TasksSection = Annotated[Synthetic | JsonLines | Hub, Field(discriminator="kind")]
MethodSection = Annotated[
    SparseOrthogonal
    | Lora
    | LoraByTask
    | ExpertsOnce
    | Lori
    | Ffa
    | Fedsa
    | Alternating
    | Stacking
    | Full
    | FullOracle
    | LocalOnly,
    Field(discriminator="kind"),
]
TopologySection = Annotated[
    ByMethod
    | ClusterMesh
    | TaskMesh
    | Ring
    | Complete
    | RandomGeometric
    | ErdosRenyi
    | RandomRegular
    | RandomFeasible
    | ListedEdges
    | Isolated,
    Field(discriminator="kind"),
]
ChannelSection = Annotated[Ideal | Wireless, Field(discriminator="kind")]
AccessSection = Annotated[
    IdealAccess | OfdmaAccess | TdmaAccess | AlohaAccess, Field(discriminator="kind")
]
RouterSection = Annotated[
    RidgeLda | Cosine | Arrow | BagOfWords | Uniform | Oracle, Field(discriminator="kind")
]


GRAPHS_OF = {
    "clusters": ("clusters", "complete", "tasks"),
    "tasks": ("tasks",),
    "none": ("none",),
}
"""Graphs that make sense for a method which mixes inside clusters, inside tasks, or not at all."""


class Scenario(Section):
    """Everything a run depends on. Same scenario and seed, same bytes."""

    name: Name = Field(description="names the output folder")
    seed: int = Field(default=1, ge=0, lt=2**63, description="every random draw follows from it")
    devices: int = Field(default=8, ge=2, le=1024, description="M: emulated wireless devices")
    rounds: int = Field(default=10, gt=0, description="communication rounds")
    stop: Stop | None = Field(default=None, description="limits that may end the rounds earlier")
    backbone: BackboneSection = Field(default=Tiny(), description="the frozen model")
    tasks: SerializeAsAny[Annotated[TasksSection, plugin_or(TaskSuite)]] = Field(
        default=Synthetic(), description="what the devices learn"
    )
    method: SerializeAsAny[Annotated[MethodSection, plugin_or(Method)]] = Field(
        default=SparseOrthogonal(), description="what is trained, sent and merged"
    )
    topology: SerializeAsAny[Annotated[TopologySection, plugin_or(Topology)]] = Field(
        default=ByMethod(), description="who reaches whom"
    )
    channel: SerializeAsAny[Annotated[ChannelSection, plugin_or(ChannelModel)]] = Field(
        default=Ideal(), description="the air between devices"
    )
    access: SerializeAsAny[Annotated[AccessSection, plugin_or(Access)]] = Field(
        default=IdealAccess(), description="who is on the air when"
    )
    clock: Annotated[Virtual | Paced, Field(discriminator="kind")] = Field(
        default=Virtual(), description="how emulated time passes"
    )
    wire: WireFormat = Field(default=WireFormat(), description="how messages become packets")
    local: Local = Field(default=Local(), description="local training")
    router: SerializeAsAny[Annotated[RouterSection, plugin_or(Router)]] = Field(
        default=RidgeLda(), validate_default=True, description="which expert answers"
    )
    evaluation: Evaluation = Field(default=Evaluation(), description="what is measured on the way")
    schedule: Annotated[Synchronous | Asynchronous, Field(discriminator="kind")] = Field(
        default=Synchronous(), description="when devices exchange"
    )
    on_device_failure: Literal["stop"] = Field(
        default="stop", description="the death of a device ends the run"
    )
    stall_timeout_s: float = Field(
        default=1800.0, gt=0, description="give up on a silent device after so much wall time [s]"
    )
    accelerator: Literal["cpu", "cuda", "auto"] = Field(
        default="cpu",
        description="where tensors live; auto: on GPUs where there are some (their results repeat to "
        "rounding only)",
    )
    backend: Literal["gloo", "nccl"] = Field(
        default="gloo",
        description="what carries data between processes; nccl: between GPUs, one for each device",
    )

    @field_validator("router")
    @classmethod
    def _router_of_method(cls, router: BaseModel, info: ValidationInfo) -> BaseModel:
        """What full_oracle means by its name: the true task answers, whatever was asked for."""
        return Oracle() if isinstance(info.data.get("method"), FullOracle) else router

    @property
    def graph(self) -> Topology:
        """The topology, `by_method` resolved."""
        if not isinstance(self.topology, ByMethod):
            return self.topology
        match self.method.topology_by_default:
            case "clusters":
                return ClusterMesh(max_collision_rate=self.topology.max_collision_rate)
            case "tasks":
                return TaskMesh()
            case "none":
                return Isolated()
            case _:
                return RandomRegular(degree=self.topology.degree)

    @property
    def exchanges(self) -> bool:
        """Whether devices send each other anything."""
        return self.method.topology_by_default != "none"

    @property
    def routing(self) -> Routing:
        """The router, and how experts stand beside the backbone under the method."""
        active_ranks = getattr(self.method, "active_ranks", None)
        names, routed = self.tasks.names, self.method.routes
        return Routing(self.router, names, self.seed, routed, active_ranks)

    @property
    def run_name(self) -> str:
        """`<name>-<method>-<seed>`: the default output folder under runs/."""
        return f"{self.name}-{self.method.kind.rsplit(':', 1)[-1]}-{self.seed}"

    def bind_air(self) -> tuple[BoundChannel, BoundAccess]:
        """The air between its devices.

        Raises ScenarioError for places or gains that are not there, and for a channel of a user's own
        whose bind() or at() gives an object that lacks something.
        """
        channel = self.channel.bind(self.devices, self.seed)
        self._check_bound(channel, BoundChannel, "bind()")
        self._check_bound(channel.at(0.0), Snapshot, "bind().at()")
        return channel, bound_access(self.access, channel, self.seed)

    def _check_bound(self, part: object, protocol: type, call: str) -> None:
        if lacking := missing_in(part, protocol):
            raise ScenarioError(
                [
                    f"channel.kind: got {self.channel.kind!r}, whose {call} gives an object of "
                    f"{type(part).__name__} without {', '.join(lacking)}; wanted a "
                    f"protocols.{protocol.__name__}"
                ]
            )

    @model_validator(mode="after")
    def _fits_together(self) -> "Scenario":
        """Combinations that no single section can see. Raises one ValueError with all of them."""
        problems = [
            *self._tasks_fit(),
            *self._topology_fits(),
            *self._schedule_fits(),
            *self._policy_fits(),
            *self._air_fits(),
            *self._backend_fits(),
            *out_of_bounds(self),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _air_fits(self) -> list[str]:
        channel, access, problems = self.channel, self.access, []
        if not isinstance(channel, Wireless):
            return []
        if channel.needs_band and isinstance(access, IdealAccess):
            problems.append(
                "access.kind: got ideal where rate or losses depend on the noise of the band, wanted a "
                "finite band, e.g. {kind: ofdma, bandwidth_hz: 25.0e+3}"
            )
        if channel.rate.kind == "trace" and isinstance(access, TdmaAccess | AlohaAccess):
            problems.append(
                f"access.kind: got {access.kind} with channel.rate.kind trace, wanted ideal or ofdma (a trace "
                "says by itself when a link may send)"
            )
        return problems + band_problems(channel, access.bandwidth_hz)

    def _backend_fits(self) -> list[str]:
        """NCCL knows GPUs only, and devices that exchange together as fast as they can."""
        against = {
            "accelerator: cpu": self.accelerator == "cpu",
            "schedule.kind: asynchronous": isinstance(self.schedule, Asynchronous),
            "clock.kind: paced": isinstance(self.clock, Paced),
        }
        return [
            f"backend: got nccl with {key}, wanted gloo, or another {key.split(':')[0]}"
            for key, there in against.items()
            if there and self.backend == "nccl"
        ]

    def _schedule_fits(self) -> list[str]:
        """What needs all devices at one point has no place among devices that do not wait."""
        if isinstance(self.schedule, Synchronous):
            return []
        together = {
            "stop": self.stop is not None,
            "clock.kind: paced": isinstance(self.clock, Paced),
            "local.flop_per_s": bool(self.local.flop_per_s),
            "method.kind: stacking": isinstance(self.method, Stacking),
            "method.kind: experts_once": isinstance(self.method, ExpertsOnce),
            **{
                f"method.{key}": getattr(self.method, key, None) is not None
                for key in ("recluster_every", "exchange_every")
            },
        }
        return [
            f"schedule.kind: got asynchronous with {key}, wanted one of the two"
            for key, there in together.items()
            if there
        ]

    def _tasks_fit(self) -> list[str]:
        names = self.tasks.names
        problems = [f"tasks.names: {problem}" for problem in wrong_names(names)]
        if len(set(names)) < len(names):
            problems.append(f"tasks.names: got {list(names)}, wanted every task once")
        if self.devices < len(names):
            problems.append(
                f"devices: got {self.devices}, wanted at least one for each of {len(names)} tasks"
            )
        both = sorted(set(self.evaluation.unseen_tasks) & set(names))
        if both or len(set(self.evaluation.unseen_tasks)) < len(self.evaluation.unseen_tasks):
            problems.append(
                f"evaluation.unseen_tasks: got {list(self.evaluation.unseen_tasks)}, wanted tasks "
                f"that no device learns, each once"
            )
        if isinstance(self.tasks, JsonLines | Hub):
            strange = sorted(set(self.tasks.paraphrases) - set(names))
            if strange:
                problems.append(f"tasks.paraphrases: got {strange}, wanted some of {list(names)}")
            if self.evaluation.paraphrases != "none" and not self.tasks.paraphrases:
                problems.append(
                    f"evaluation.paraphrases: got {self.evaluation.paraphrases} without "
                    "tasks.paraphrases, wanted other words for at least one task"
                )
        if isinstance(self.backbone, SentenceEncoder) and isinstance(self.tasks, Synthetic):
            problems.append(
                "tasks.kind: got synthetic under a sentence encoder, wanted choice tasks (jsonl, hub)"
            )
        return problems

    def _policy_fits(self) -> list[str]:
        """Not every merge knows what each policy for lost coordinates would mean."""
        method, policy = self.method, self.wire.lost_coordinates
        got, wanted = f"wire.lost_coordinates: got {policy}", "keep_own, retransmit or drop_message"
        if isinstance(method, Stacking) and policy in ("renormalise", "last_received"):
            return [
                f"{got} for stacking, wanted {wanted} (it adds products up, it does not average)"
            ]
        inner = method.inner if isinstance(method, ExpertsOnce) else method
        aggregation = inner.aggregation if isinstance(inner, SparseOrthogonal) else "mask_mean"
        if aggregation != "mask_mean" and policy == "renormalise":
            return [
                f"{got} with method.aggregation {aggregation}, wanted mask_mean or another policy "
                "(Eq 10 divides by the size of the cluster, whoever was received)"
            ]
        return []

    def _topology_fits(self) -> list[str]:
        graph = self.graph
        problems = []
        wanted = GRAPHS_OF.get(self.method.topology_by_default)
        if wanted and self.topology.kind not in ("by_method", *wanted):
            problems.append(
                f"topology.kind: got {self.topology.kind} for {self.method.kind}, wanted "
                f"{', '.join(['by_method', *wanted[:-1]])} or {wanted[-1]}"
            )
        if isinstance(graph, RandomRegular) and (
            graph.degree >= self.devices or graph.degree * self.devices % 2
        ):
            fitting = [d for d in range(1, self.devices) if d * self.devices % 2 == 0]
            nearest = min(fitting, key=lambda d: abs(d - graph.degree), default=None)
            problems.append(
                f"topology.degree: got {graph.degree} for {self.devices} devices, wanted less than "
                f"devices, and degree x devices even{f', such as {nearest}' if nearest else ''}"
            )
        return problems
