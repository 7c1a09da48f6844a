"""One complete, frozen, typed description of a run.

Every section is a frozen model of the package that it configures; here they are only combined by `kind`.
`emulator.scenario.load` reads a file, and `emulator.scenario.error_messages` describes its problems.
"""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    Field,
    SerializeAsAny,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

from emulator.core.errors import ScenarioError
from emulator.core.names import Name
from emulator.core.plain_numbers import find_out_of_bounds
from emulator.core.plugins import find_missing, plugin_or
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
from emulator.network.channel.access import IdealAccess, OfdmaAccess, TdmaAccess, bind_access
from emulator.network.channel.aloha import AlohaAccess
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
from emulator.scenario.compatibility import find_conflicts
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


ROUTER: TypeAdapter[BaseModel] = TypeAdapter(RouterSection)


class Scenario(Section):
    """Everything that a run depends on. The same scenario and seed give the same bytes."""

    name: Name = Field(description="name of the run, part of its output folder's name")
    seed: int = Field(default=1, ge=0, lt=2**63, description="determines every random draw")
    devices: int = Field(default=8, ge=2, le=1024, description="M: emulated wireless devices")
    rounds: int = Field(default=10, gt=0, description="communication rounds")
    stop: Stop | None = Field(default=None, description="limits that may end the rounds earlier")
    backbone: BackboneSection = Field(default=Tiny(), description="the frozen model")
    tasks: SerializeAsAny[Annotated[TasksSection, plugin_or(TaskSuite)]] = Field(
        default=Synthetic(), description="the tasks that the devices learn"
    )
    method: SerializeAsAny[Annotated[MethodSection, plugin_or(Method)]] = Field(
        default=SparseOrthogonal(),
        description="the trained parameters, the messages and their merge",
    )
    topology: SerializeAsAny[Annotated[TopologySection, plugin_or(Topology)]] = Field(
        default=ByMethod(), description="the links of each round"
    )
    channel: SerializeAsAny[Annotated[ChannelSection, plugin_or(ChannelModel)]] = Field(
        default=Ideal(), description="the radio channel between devices"
    )
    access: SerializeAsAny[Annotated[AccessSection, plugin_or(Access)]] = Field(
        default=IdealAccess(),
        description="the access scheme: when devices transmit, and in which band",
    )
    clock: Annotated[Virtual | Paced, Field(discriminator="kind")] = Field(
        default=Virtual(), description="the clock of emulated time"
    )
    wire: WireFormat = Field(default=WireFormat(), description="the format of messages and packets")
    local: Local = Field(default=Local(), description="local training")
    router: SerializeAsAny[Annotated[RouterSection, plugin_or(Router)]] = Field(
        default=RidgeLda(),
        validate_default=True,
        description="the choice of the expert that answers",
    )
    evaluation: Evaluation = Field(default=Evaluation(), description="optional measurements")
    schedule: Annotated[Synchronous | Asynchronous, Field(discriminator="kind")] = Field(
        default=Synchronous(), description="the order of training and exchanges"
    )
    checkpoint_every: int | None = Field(
        default=None,
        ge=0,
        description="rounds from one checkpoint to the next, 0: none; default: 1, asynchronous rounds have none",
    )
    checkpoint_keep: int = Field(
        default=2, gt=0, description="how many of the last checkpoints are kept"
    )
    on_device_failure: Literal["stop"] = Field(
        default="stop", description="the failure of a device ends the run"
    )
    stall_timeout_s: float = Field(
        default=1800.0,
        gt=0,
        description="wall time without a message after which a device counts as failed [s]",
    )
    accelerator: Literal["cpu", "cuda", "auto"] = Field(
        default="cpu",
        description="processor of the tensors; auto: GPUs if there are any (their results are "
        "reproducible only up to rounding)",
    )
    backend: Literal["gloo", "nccl"] = Field(
        default="gloo",
        description="transport between processes; nccl: between GPUs, one for each device",
    )

    @field_validator("router")
    @classmethod
    def _use_router_of_method(cls, router: BaseModel, info: ValidationInfo) -> BaseModel:
        """Replace the router if the method has its own."""
        own = getattr(info.data.get("method"), "own_router", None)
        return ROUTER.validate_python({"kind": own}) if own else router

    @property
    def rounds_per_checkpoint(self) -> int:
        """`checkpoint_every` with its default; 0: no checkpoints."""
        if self.checkpoint_every is None:
            return 1 if isinstance(self.schedule, Synchronous) else 0
        return self.checkpoint_every

    @property
    def graph(self) -> Topology:
        """The topology, with `by_method` resolved."""
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
        """Whether devices exchange messages."""
        return self.method.topology_by_default != "none"

    @property
    def routing(self) -> Routing:
        """The router, and the way in which the method combines experts with the backbone."""
        active_ranks = getattr(self.method, "active_ranks", None)
        names, routed = self.tasks.names, self.method.routes
        return Routing(self.router, names, self.seed, routed, active_ranks)

    @property
    def run_name(self) -> str:
        """The default output folder under runs/: `<name>-<method>-<seed>`."""
        return f"{self.name}-{self.method.kind.rsplit(':', 1)[-1]}-{self.seed}"

    def bind_channel(self) -> tuple[BoundChannel, BoundAccess]:
        """Bind channel and access scheme to the devices and the seed.

        Raises ScenarioError for missing files of positions or gains, and for a user's own channel whose
        bind() or at() returns an object without a required member.
        """
        channel = self.channel.bind(self.devices, self.seed)
        self._check_bound(channel, BoundChannel, "bind()")
        self._check_bound(channel.at(0.0), Snapshot, "bind().at()")
        return channel, bind_access(self.access, channel, self.seed)

    def _check_bound(self, part: object, protocol: type, call: str) -> None:
        if lacking := find_missing(part, protocol):
            raise ScenarioError(
                [
                    f"channel.kind: got {self.channel.kind!r}, whose {call} gives an object of "
                    f"{type(part).__name__} without {', '.join(lacking)}; wanted a "
                    f"protocols.{protocol.__name__}"
                ]
            )

    @model_validator(mode="after")
    def _check_combinations(self) -> "Scenario":
        """Check combinations of sections. Raises one ValueError with all conflicts."""
        problems = [*find_conflicts(self), *find_out_of_bounds(self)]
        if problems:
            raise ValueError("\n".join(problems))
        return self
