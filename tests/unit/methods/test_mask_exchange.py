"""Who chooses a mask, who hears of it, and that masks chosen in turn never overlap."""

from collections.abc import Generator

import numpy as np
import pytest
from toy_device import ToyDevice

from emulator.core.errors import ScenarioError
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import BoolArray
from emulator.core.types.steps import Inbox, Step
from emulator.methods.expert_exchange import ExpertRing
from emulator.methods.mask_exchange import (
    Masks,
    choose_alone,
    choose_in_turn,
    send_to_cluster,
    warmup_steps,
)
from emulator.network.channel.access import IdealAccess
from emulator.network.channel.ideal import Ideal
from emulator.network.shim import Shim
from emulator.network.wire import WireFormat
from emulator.runtime.drivers import one_process

SIZE, KEPT = 60, 12
LAYOUT = AdapterLayout(("m.lora_B",), ((SIZE,),))
Clusters = tuple[tuple[int, ...], ...]


def random_mask(device: int) -> Mask:
    return Mask(SIZE, np.sort(np.random.default_rng(device).permutation(SIZE)[:KEPT]))


def sent_by(toy: ToyDevice) -> int:
    """Messages sent so far, counted once per receiver."""
    return sum(len(message.receivers) for message in toy.messages)


def first_free(free_N: BoolArray) -> Mask:
    """Everybody wants the same entries."""
    return Mask(SIZE, np.flatnonzero(free_N)[:KEPT])


def talk(
    clusters: Clusters, groups: list[int], in_turn: bool
) -> tuple[dict[int, Masks], dict[int, ToyDevice]]:
    """What every device knows at the end."""
    toys = {i: ToyDevice(i, LAYOUT, WireFormat()) for i in range(len(groups))}

    def life(toy: ToyDevice) -> Generator[Step, Inbox, Masks]:
        ring = ExpertRing(toy, clusters, groups, [1] * len(groups))
        if in_turn:
            return (yield from choose_in_turn(toy, ring, first_free))
        return (yield from choose_alone(toy, ring, lambda: random_mask(toy.info.id)))

    air = Ideal().bind(len(groups), 1)
    shims = {i: Shim(i, WireFormat(), IdealAccess(), air) for i in toys}
    outcomes = one_process.run_lives({i: life(toys[i]) for i in toys}, shims, lambda *_: None)  # type: ignore[misc]
    return {i: outcome.result for i, outcome in outcomes.items()}, toys  # type: ignore[misc]


NETWORKS: list[tuple[Clusters, list[int]]] = [
    (((0, 1, 2, 3),), [0, 1, 2, 3]),
    (((0, 3), (1, 2)), [0, 1, 0, 1]),
    (((0, 1, 4), (2, 3, 5)), [0, 1, 1, 2, 3, 0]),
    (((0,), (1,), (2,)), [0, 0, 1]),
]


@pytest.mark.parametrize(("clusters", "groups"), NETWORKS)
@pytest.mark.parametrize("in_turn", [False, True])
def test_a_cluster_knows_the_masks_of_its_groups_and_all_agree(
    clusters: Clusters, groups: list[int], in_turn: bool
) -> None:
    known, _ = talk(clusters, groups, in_turn)
    for device, masks in known.items():
        members = next(c for c in clusters if device in c)
        assert set(masks) == {groups[i] for i in members}
        for group, mask in masks.items():
            lead = groups.index(group)
            np.testing.assert_array_equal(mask.indices, known[lead][group].indices)


@pytest.mark.parametrize(("clusters", "groups"), NETWORKS)
def test_masks_chosen_in_turn_never_overlap_in_a_cluster(
    clusters: Clusters, groups: list[int]
) -> None:
    known, _ = talk(clusters, groups, in_turn=True)
    for masks in known.values():
        writers_N = np.sum([mask.dense for mask in masks.values()], axis=0)
        assert writers_N.max() == 1


def test_only_leads_and_tellers_speak() -> None:
    _, toys = talk(((0, 1, 4), (2, 3, 5)), [0, 1, 1, 2, 3, 0], in_turn=False)
    # 0 to its peer 5 and the strangers 1, 4; 1 to its peer 2 and the stranger 0; 2, 3, 5 to two each.
    assert {i: sent_by(toy) for i, toy in toys.items()} == {0: 3, 1: 3, 2: 2, 3: 2, 4: 2, 5: 2}


def test_in_other_clusters_a_mask_is_told_only_to_those_who_have_not_heard_it() -> None:
    groups = [0, 1, 2, 3]
    toys = {i: ToyDevice(i, LAYOUT, WireFormat()) for i in range(4)}
    sent_before: dict[int, int] = {}

    def life(toy: ToyDevice) -> Generator[Step, Inbox, Masks]:
        ring = ExpertRing(toy, ((0, 1), (2, 3)), groups, [1] * 4)
        mine = (yield from choose_alone(toy, ring, lambda: random_mask(toy.info.id)))[toy.info.id]
        sent_before[toy.info.id] = sent_by(toy)
        ring.regroup(((0, 1, 2), (3,)))
        return (yield from send_to_cluster(toy, ring, mine))

    air = Ideal().bind(4, 1)
    shims = {i: Shim(i, WireFormat(), IdealAccess(), air) for i in toys}
    outcomes = one_process.run_lives({i: life(toys[i]) for i in toys}, shims, lambda *_: None)  # type: ignore[misc]
    # 0 and 1 know each other; 2 is news to both, both are news to 2; 3 has nobody to talk to.
    assert {i: sent_by(toys[i]) - sent_before[i] for i in toys} == {0: 1, 1: 1, 2: 2, 3: 0}
    for device in (0, 1, 2):
        masks: Masks = outcomes[device].result  # type: ignore[assignment]
        for group in (0, 1, 2):
            wanted = random_mask(group).indices
            np.testing.assert_array_equal(masks[group].indices, wanted)


@pytest.mark.parametrize(
    ("asked", "total", "steps"),
    [(None, 1000, 50), (None, 100, 10), (None, 20, 10), (None, 6, 3), (None, 1, 1), (5, 6, 5)],
)
def test_a_warm_up_leaves_steps_for_the_mask(asked: int | None, total: int, steps: int) -> None:
    assert warmup_steps(asked, total) == steps


def test_a_warm_up_that_takes_everything_is_refused() -> None:
    with pytest.raises(ScenarioError, match="got 6 of 6 local steps in all, wanted fewer"):
        warmup_steps(6, 6)
