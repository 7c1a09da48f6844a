"""How devices learn each other's masks: the leader of each task group chooses, and sends to those that need it.

A *task group* shares a projection and a mask; its *leader* is the lowest of its devices. Shapes: N
coordinates of all B.
"""

from collections.abc import Callable, Generator

import numpy as np

from emulator.core.errors import ScenarioError
from emulator.core.protocols.context import DeviceContext
from emulator.core.rng import stream
from emulator.core.types.adapter import Mask
from emulator.core.types.arrays import BoolArray
from emulator.core.types.steps import Inbox, Step
from emulator.methods.expert_exchange import ExpertRing
from emulator.methods.messages import mask_message

Masks = dict[int, Mask]
"""By group: those of the own cluster."""


def warmup_steps(asked: int | None, total_steps: int) -> int:
    """Dense local steps before a mask is chosen; they are taken off the first rounds.

    Default: 5 % of all steps, at least 10, but no more than half of them.
    Raises ScenarioError where the masked adapter would have none left.
    """
    if asked is None:
        return max(1, min(max(10, round(0.05 * total_steps)), total_steps // 2))
    if asked >= total_steps:
        raise ScenarioError(
            [
                f"method.mask_warmup_steps: got {asked} of {total_steps} local steps in all, wanted "
                "fewer (more rounds or local.steps)"
            ]
        )
    return asked


def choose_alone(
    ctx: DeviceContext, ring: ExpertRing, choose: Callable[[], Mask]
) -> Generator[Step, Inbox, Masks]:
    """Every leader chooses by itself and sends to its group; then each cluster learns its groups' masks."""
    own_id = ctx.info.id
    group = ring.groups[own_id]
    leader = ring.groups.index(group)
    if own_id == leader:
        mine = choose()
        peers = tuple(i for i, b in enumerate(ring.groups) if b == group and i != own_id)
        yield from ctx.network.exchange([mask_message(ctx, mine, peers)] if peers else [], ())
    else:
        (received,) = yield from ctx.network.exchange([], (leader,))
        mine = Mask.from_dense(received.received)
    return (yield from send_to_cluster(ctx, ring, mine))


def send_to_cluster(
    ctx: DeviceContext, ring: ExpertRing, mine: Mask
) -> Generator[Step, Inbox, Masks]:
    """In each cluster the lowest member of every group sends its mask to those that do not know it."""
    own_id = ctx.info.id
    group = ring.groups[own_id]
    senders = ring.senders_of(ring.index)
    unaware = tuple(i for i in ring.others if group not in ring.knows[i])
    messages = [mask_message(ctx, mine, unaware)] if unaware and senders[group] == own_id else []
    wait_for = tuple(sorted(i for b, i in senders.items() if b not in ring.knows[own_id]))
    received = yield from ctx.network.exchange(messages, wait_for)
    masks = {ring.groups[each.source]: Mask.from_dense(each.received) for each in received}
    ring.learn_masks({group: mine, **masks})
    return {b: ring.masks[b] for b in sorted(ring.groups_of(ring.index))}


def choose_in_turn(
    ctx: DeviceContext, ring: ExpertRing, choose: Callable[[BoolArray], Mask]
) -> Generator[Step, Inbox, Masks]:
    """Group leaders choose one after the other, in seeded order, among entries that no group near them has taken.

    `choose` gets the free coordinates [N]. Groups are near when some cluster holds both; so no two
    masks of a cluster overlap. One exchange per group.
    """
    groups = sorted(set(ring.groups))
    order = [groups[i] for i in stream(ctx.info.seed, "mask_order").permutation(len(groups))]
    masks: Masks = {}
    own_id = ctx.info.id
    for group in order:
        leader = ring.groups.index(group)
        needing = _devices_needing(ring, group)
        if own_id == leader:
            near = _near(ring, group)
            taken_N = np.zeros(ctx.model.adapted.layout.size, dtype=np.bool_)
            for other in near & masks.keys():
                taken_N |= masks[other].dense
            masks[group] = choose(~taken_N)
            receivers = tuple(sorted(needing - {own_id}))
            messages = [mask_message(ctx, masks[group], receivers)] if receivers else []
            yield from ctx.network.exchange(messages, ())
        else:
            wait_for = (leader,) if own_id in needing else ()
            for received in (yield from ctx.network.exchange([], wait_for)):
                masks[group] = Mask.from_dense(received.received)
    ring.learn_masks(masks)
    return {group: masks[group] for group in sorted(ring.groups_of(ring.index))}


def _near(ring: ExpertRing, group: int) -> set[int]:
    """The other groups with which a group shares some cluster."""
    held = [ring.groups_of(c) for c in range(len(ring.clusters))]
    return set().union(*(groups for groups in held if group in groups)) - {group}


def _devices_needing(ring: ExpertRing, group: int) -> set[int]:
    """Devices that need a group's mask: all in clusters that hold it, and the leaders of groups near it."""
    clusters = [c for c in range(len(ring.clusters)) if group in ring.groups_of(c)]
    members = {i for c in clusters for i in ring.clusters[c]}
    return members | {ring.groups.index(other) for other in _near(ring, group)}
