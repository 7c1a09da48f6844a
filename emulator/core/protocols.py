"""The doors: what a plug-in must offer. Tensor types appear for the type checker only.

Every built-in is a frozen pydantic model that its section of the scenario fills; a user's own class
is named by its import path (`kind: mypackage.channels:Urban`).
Shapes: S sequences, T tokens, H hidden width, E experts, M devices, N adapter coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from emulator.core.rng import Stream
from emulator.core.types import (
    AdapterLayout,
    BoolArray,
    Burst,
    DeviceResult,
    DoubleArray,
    Example,
    Expert,
    ExpertForm,
    Fact,
    FloatArray,
    Grant,
    Inbox,
    IndexArray,
    Kind,
    Link,
    LinkRecord,
    LostCoordinates,
    Mask,
    Message,
    Packet,
    Question,
    Received,
    Reception,
    Request,
    Send,
    Shard,
    Step,
    Survey,
    Traffic,
    ValueType,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Life = Generator[Step, Inbox, DeviceResult]
"""A device's life: yields steps; a Send is answered by its Inbox, a Commit by an empty one."""


class Topology(Protocol):
    """The whole directed graph of a round, computed alike at every device; asked once for all rounds
    where the class says `fixed: ClassVar[bool] = True`."""

    def links(self, round_index: int, survey: Survey, seed: int) -> tuple[Link, ...]:
        """All links of the round, sorted by (receiver, sender)."""
        ...


class Access(Protocol):
    """A scheme of who is on the air when, on which band."""

    @property
    def bandwidth_hz(self) -> float:
        """The whole band of one sender [Hz]."""
        ...

    def bind(self, hears_MM: BoolArray, seed: int) -> BoundAccess:
        """The scheme of one run, for devices of which i hears j where hears_MM[i, j]."""
        ...


class BoundAccess(Protocol):
    """The scheme of one run. Pure: same requests, same grants."""

    @property
    def cast(self) -> str:
        """Whether one transmission serves several receivers: unicast or broadcast."""
        ...

    @property
    def powers_add_up(self) -> bool:
        """Whether a sender serves its neighbours at once, each with a power of its own."""
        ...

    def share(self, neighbours: int) -> tuple[float, float]:
        """The band [Hz] and the share of time that each of so many neighbours gets of a sender."""
        ...

    def plan(self, requests: Sequence[Request]) -> tuple[Grant, ...]:
        """Grants in the order of the requests of one contention domain; powers still at 0."""
        ...


class ChannelModel(Protocol):
    """A kind of air as the scenario describes it.

    It may also have `doubts(bandwidth_hz) -> Sequence[str]`: notes on parts of it that fit badly.
    """

    def bind(self, devices: int, seed: int) -> BoundChannel:
        """The air between so many devices under one seed: positions and mean gains fixed."""
        ...


class Snapshot(Protocol):
    """The network as it lies at one moment. M devices."""

    @property
    def positions_m(self) -> DoubleArray:
        """Where the devices are [M, 2]."""
        ...

    @property
    def mean_gain(self) -> DoubleArray:
        """Linear power gain without small-scale fading [M, M], diagonal 0, symmetric.
        Law: where two moments have the same array (not a copy), nothing has changed between them."""
        ...

    def in_range(self, bandwidth_hz: float, time_share: float) -> BoolArray:
        """Which pairs can exchange one packet within the deadline [M, M]."""
        ...

    def bit_per_s(self, bandwidth_hz: float) -> DoubleArray:
        """Rate of i towards j on a band at the mean gain and full power [M, M]."""
        ...

    def required_power_w(
        self, num_bytes: int | IndexArray, bandwidth_hz: float, time_share: float
    ) -> DoubleArray:
        """Least power [M, M] that meets the deadline on a band in a share of the time."""
        ...


class BoundChannel(Protocol):
    """The air itself. Pure: same packets, grant and seed give the same reception."""

    @property
    def max_power_w(self) -> DoubleArray:
        """Transmit power limit of each device [M]."""
        ...

    @property
    def splits_power_equally(self) -> bool:
        """Whether grants at once have equal powers, whatever each of them needs."""
        ...

    @property
    def deadline_s(self) -> float:
        """Γ: the time that a transfer is planned to take [s]."""
        ...

    def at(self, time_s: float) -> Snapshot:
        """The network at an emulated time."""
        ...

    def set_powers(self, grants: Sequence[Grant], requests: Sequence[Request]) -> tuple[Grant, ...]:
        """The grants of one sender with their transmit powers, together at most max_power_w."""
        ...

    def transmit(self, packets: Sequence[Packet], grant: Grant) -> tuple[Reception, ...]:
        """What becomes of the packets of one grant, at each of its receivers."""
        ...

    def energy_j(self, grant: Grant, reception: Reception) -> float:
        """What the sender spent on it [J]."""
        ...


class LoadedBackbone(Protocol):
    """A frozen model and what belongs to it. `family`: causal_lm or sentence_encoder."""

    @property
    def model(self) -> Module:
        """The frozen model, in eval mode."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Its Hugging Face tokenizer."""
        ...

    @property
    def family(self) -> str:
        """causal_lm or sentence_encoder."""
        ...

    @property
    def name(self) -> str:
        """What an exported adapter names as its base model."""
        ...

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Full names of the adapted linear modules."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longer inputs are cut."""
        ...

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids and attention_mask [S, T], padded on the right."""
        ...

    def read(self, texts: Sequence[str]) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Forward passes of the frozen model: (attention_mask [S, T], hidden states [S, T, H])."""
        ...

    def prompt_states(self, texts: Sequence[str], layer: int | None) -> Tensor:
        """Mean hidden state of each text over its tokens at a layer (None: the middle) [S, H]."""
        ...


class Partition(Protocol):
    """Which device holds which training examples."""

    def shards(
        self, devices: int, examples: Mapping[str, Sequence[Example]], seed: int
    ) -> tuple[Shard, ...]:
        """One shard per device, disjoint."""
        ...


class TaskSuite(Protocol):
    """The tasks of a scenario: their names and their data."""

    @property
    def partition(self) -> Partition:
        """Which device holds what."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """All tasks, in the order in which devices take them."""
        ...

    def examples(self, task: str, split: str, seed: int) -> tuple[Example, ...]:
        """All examples of one task; split is `train`, `test` or `paraphrased`.

        `paraphrased` (test questions in words unseen in training, or none) and tasks beyond `names`
        are asked for only where `evaluation` does.
        """
        ...


class Learner(Protocol):
    """How a backbone family learns from examples and answers them. A batch is opaque to others."""

    def batches(self, shard: Shard, batch_size: int, stream: Stream) -> Iterator[Any]:
        """Endless training batches of one shard, each epoch shuffled anew by the stream."""
        ...

    def parts(self, batch: Any, size: int) -> Iterator[tuple[Any, float]]:
        """A batch in parts of so many examples, each with its share in the loss of the whole."""
        ...

    def loss(self, model: Module, batch: Any) -> Tensor:
        """Mean training loss, shape ()."""
        ...

    def tokens(self, batch: Any) -> int:
        """Tokens that the model reads of a batch, padding aside."""
        ...

    def predict(self, model: Module, examples: Sequence[Example]) -> tuple[str, ...]:
        """The model's answer to each example."""
        ...

    def answer(self, model: Module, question: Example, max_new_tokens: int) -> str:
        """One answer: of the choices the best, without any what is generated."""
        ...

    def unread(self, question: Example, max_new_tokens: int) -> str:
        """Which part of a question is longer than the model's input, in words; empty: none."""
        ...

    def router_text(self, example: Example) -> str:
        """The input as the model sees it, choices included and the answer not."""
        ...


ModuleExpert = tuple["Tensor", "Tensor", float]
"""One expert in one module: A [r, k], B [d, r], scaling."""

LayerGate = Callable[["Tensor", "Tensor"], "Tensor"]
"""The layer's input [S, T, k] and the sequences' gates [S, E] -> gates of every token [S, T, E]."""


class Router(Protocol):
    """Which expert answers: pure functions from the frozen backbone's reading of a text to gates.

    Features are opaque to others, one row per question. `fitted` is all that a fitted router is: it is
    stored as it stands and answers anywhere.
    """

    @property
    def kind(self) -> str:
        """The router's name in YAML."""
        ...

    def features(self, backbone: LoadedBackbone, questions: Sequence[Question], seed: int) -> Any:
        """What the router reads of questions, from the frozen backbone alone."""
        ...

    def statistics(
        self, features: Any, task_of: Sequence[int], num_tasks: int
    ) -> dict[str, FloatArray]:
        """What devices add up over their own prompts, by name; empty: nothing is sent."""
        ...

    def fit(
        self, statistics: Mapping[str, FloatArray], own_features: Any, num_tasks: int
    ) -> dict[str, FloatArray]:
        """The router of everybody's summed statistics; own training prompts set its threshold."""
        ...

    def gates(self, fitted: Mapping[str, FloatArray], features: Any) -> FloatArray:
        """[S, tasks], none negative; a row of zeros abstains: the backbone answers alone."""
        ...

    def familiarity(self, fitted: Mapping[str, FloatArray], features: Any) -> DoubleArray:
        """How much each question is like a known task [S]; below the threshold it abstains."""
        ...

    def layer_gate(self, experts: Sequence[ModuleExpert]) -> LayerGate | None:
        """Gates made anew in every adapted module; None: the sequence's hold everywhere."""
        ...


class AdaptedModel(Protocol):
    """A backbone whose trained entries are one flat vector [N]: LoRA layers, or all its weights."""

    module: Module
    layout: AdapterLayout
    form: ExpertForm
    scaling: float
    mask: Mask

    @property
    def module_names(self) -> tuple[str, ...]:
        """The adapted modules in layout order."""
        ...

    @property
    def module_sizes(self) -> tuple[int, ...]:
        """Entries that a mask chooses among in each module: B's, or all of a weight."""
        ...

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of one layer tensor, trained or not."""
        ...

    def set_tensors(self, tensors: Mapping[str, FloatArray]) -> None:
        """Overwrite layers by name."""
        ...

    def tensors(self) -> dict[str, FloatArray]:
        """All layer tensors by name, copied."""
        ...

    def vector(self) -> FloatArray:
        """The trained entries [N], copied."""
        ...

    def load(self, vector_N: FloatArray) -> None:
        """Overwrite the trained entries; the optimiser keeps its moments."""
        ...

    def restrict(self, mask: Mask) -> None:
        """Set the trained entries to zero and from now on keep only those of the mask."""
        ...

    def start_optimiser(self, learning_rate: float, learns: Mask | None = None) -> None:
        """A fresh optimiser over the entries of `learns`, by default all kept ones; others rest."""
        ...

    def step(self, losses: Iterable[Tensor]) -> None:
        """One optimiser step along the gradient of the sum of losses, one in memory at a time."""
        ...


class LowRankModel(AdaptedModel, Protocol):
    """A backbone with LoRA layers."""

    def keep_active(self, active_ranks: int) -> None:
        """Let only the so many largest entries of A h pass on to B."""
        ...

    def absorb(self, factors: Mapping[str, FloatArray]) -> None:
        """Fold scaling * B A of factors of any rank into own weights; trained entries stay."""
        ...

    def learnt(self) -> dict[str, FloatArray]:
        """All that was learnt since the start, by module [d, k]: absorbed, and the present B A."""
        ...


class Own(Protocol):
    """What a method may use of the device that runs it (device.py provides it).

    Everything a room computes for a method is reached through here, so that a method reads like its
    algorithm and knows no other room. round_index: SETUP_ROUND before the rounds and after them.
    """

    id: int
    devices: int
    seed: int
    task_names: tuple[str, ...]
    shard: Shard
    adapted: AdaptedModel
    survey: Survey | None
    rounds: int
    round_index: int
    total_steps: int
    now_s: float
    max_power_w: float
    lost_coordinates: LostCoordinates

    @property
    def position_m(self) -> tuple[float, float]:
        """Where it is now, x and y [m]."""
        ...

    # its own model
    def adapt(self, lora_rank: int, lora_alpha: int, trained: Sequence[str]) -> LowRankModel:
        """The backbone with LoRA layers of which the named sides are trained."""
        ...

    def adapt_all(self, max_parameters: int) -> AdaptedModel:
        """The backbone with all its weights trained. Raises ScenarioError when they are more."""
        ...

    def projection(
        self, kind: str, lora_rank: int, num_blocks: int, block: int
    ) -> dict[str, FloatArray]:
        """The static projections A of one block, by layer name."""
        ...

    def projection_overlap(self, kind: str, lora_rank: int, num_blocks: int) -> float:
        """The largest ||A_i A_j^T||_2 / gamma^2 over all blocks and modules."""
        ...

    def common_start(self, lora_rank: int) -> dict[str, FloatArray]:
        """One seeded start of A that all devices share, by layer name."""
        ...

    def kept_counts(
        self, allocation: str, budget: int, temperature: float, ridge: float
    ) -> IndexArray:
        """Entries of B to keep in each module under a budget, from this device's own data [L]."""
        ...

    def parameter_budget(self, neighbours: int) -> int:
        """How many values the device can afford to train and to send to so many neighbours."""
        ...

    def largest_entries(self, counts_L: IndexArray, free_N: BoolArray) -> Mask:
        """The mask of the largest trained entries in each module, of those that are free."""
        ...

    def random_entries(self, counts_L: IndexArray) -> Mask:
        """A mask of so many random entries in each module, keyed by the device."""
        ...

    def largest_of_all(self, count: int) -> Mask:
        """The mask of the largest trained entries, wherever they are."""
        ...

    def train(self, steps: int) -> float:
        """Local steps; time and energy pass. Returns the mean loss."""
        ...

    def start_rounds(self) -> None:
        """Remember where the rounds start from; for a method that starts afresh, also later on."""
        ...

    def measure_modules(self, metric: str, values_L: DoubleArray) -> None:
        """Put one value of the setup for each module into the records, as METRIC/MODULE."""
        ...

    def measure(self, metric: str, value: float, round_index: int, task: str = "") -> None:
        """Put a value into the records."""
        ...

    # the others
    def introduce(
        self, body: bytes, traffic: Traffic = Traffic.SETUP
    ) -> Generator[Step, Inbox, dict[int, bytes]]:
        """Flood a few bytes through the network; returns everybody's by device id."""
        ...

    def survey_of(
        self,
        samples: Sequence[int],
        blocks: Sequence[int],
        densities_ML: DoubleArray,
        planned: Sequence[Message],
        time_s: float = 0.0,
    ) -> Survey:
        """What the introductions tell, with gains and required powers at a time that all agree on."""
        ...

    def links(self, round_index: int) -> tuple[Link, ...]:
        """All links of the round under the scenario's topology."""
        ...

    def clusters(self, round_index: int) -> tuple[tuple[int, ...], ...]:
        """The clusters of the survey, each sorted, to be measured under a round."""
        ...

    def exchange(
        self, messages: Sequence[Message], wait_for: Sequence[int], known: Sequence[Fact] = ()
    ) -> Generator[Step, Inbox, tuple[Received, ...]]:
        """Send and wait; the clock moves on to the last arrival."""
        ...

    def try_diluted(self, merged: Callable[[FloatArray], FloatArray], round_index: int) -> None:
        """The dilution control; between receiving and loading what was merged.

        merged: the merge of this exchange with one vector [N] in the place of every received one, where
        something was received; it returns what would be loaded [N], float32. See inspection.py.
        """
        ...

    def value_type(self, kind: Kind = Kind.VALUES) -> ValueType:
        """How adapter values, or routing statistics, travel."""
        ...

    def to_send(self, vector_N: FloatArray) -> FloatArray:
        """The trained vector, with error feedback plus what rounding has held back; once a round."""
        ...

    def as_received(self, values: FloatArray, kind: Kind = Kind.VALUES) -> FloatArray:
        """Values as every receiver will see them (rounded to the wire's type)."""
        ...

    def router_statistics(self) -> tuple[AdapterLayout, FloatArray]:
        """Additive statistics of own training prompts; empty where the router needs none."""
        ...

    def use_router_statistics(self, statistics: FloatArray) -> None:
        """Fit the router to the summed statistics of all devices."""
        ...


class AdapterMethod(Protocol):
    """One device's part in a method: what is trained, sent and merged."""

    def setup(self) -> Generator[Step, Inbox, None]:
        """All that happens once, before the first round."""
        ...

    def exchange(self, round_index: int) -> Generator[Step, Inbox, None]:
        """Send and merge after the local steps of a round; `own.try_diluted` gets its merge."""
        ...

    def finish(self) -> Generator[Step, Inbox, None]:
        """All that happens once, after the last round."""
        ...

    def own_expert(self) -> Expert:
        """The adapter this device answers its own task with."""
        ...

    def experts(self) -> Sequence[Expert]:
        """All adapters this device can answer with, in the order of the router's gates."""
        ...


class Method(Protocol):
    """A method as the scenario describes it; one file per row of the table of methods."""

    topology_by_default: ClassVar[str]
    """Which graph `topology: by_method` means: clusters, tasks, random_regular or none."""
    routes: ClassVar[bool]
    """Whether it ends with several experts between which a router chooses."""

    @property
    def kind(self) -> str:
        """The method's name in YAML."""
        ...

    def start(self, own: Own) -> AdapterMethod:
        """Adapt the device's backbone and return its part."""
        ...


class Air(Protocol):
    """The channel shim as drivers see it: one per device."""

    def emit(
        self, send: Send, exchange_index: int
    ) -> tuple[tuple[Burst, ...], tuple[LinkRecord, ...]]:
        """Put a Send on the air: one burst per receiver, and what it cost on every hop to it."""
        ...

    def collect(self, send: Send, bursts: Sequence[Burst]) -> Inbox:
        """Turn the bursts that a Send waited for into its inbox."""
        ...
