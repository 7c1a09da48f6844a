"""One complete, frozen, typed description of a run.

Every section is the frozen model of the room it configures; here they are only united by `kind`.
Reading a file is `emulator.scenario.load`; what is wrong with it, in words, `emulator.scenario.error_messages`.
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
        """That of a method which answers with one of its own, whatever was asked for."""
        own = getattr(info.data.get("method"), "own_router", None)
        return ROUTER.validate_python({"kind": own}) if own else router

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
        problems = [*find_conflicts(self), *out_of_bounds(self)]
        if problems:
            raise ValueError("\n".join(problems))
        return self
