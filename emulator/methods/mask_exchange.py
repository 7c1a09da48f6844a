"""How devices learn each other's masks: each block's lead chooses, and sends to those that need it.

A *block* is a projection and its mask; its *lead* is the lowest device that holds it. Shapes: N
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
"""By block: those of the own cluster."""


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
    """Every lead chooses by itself and sends to its block; then each cluster learns its blocks' masks."""
    own_id = ctx.info.id
    block = ring.blocks[own_id]
    lead = ring.blocks.index(block)
    if own_id == lead:
        mine = choose()
        peers = tuple(i for i, b in enumerate(ring.blocks) if b == block and i != own_id)
        yield from ctx.network.exchange([mask_message(ctx, mine, peers)] if peers else [], ())
    else:
        (received,) = yield from ctx.network.exchange([], (lead,))
        mine = Mask.from_dense(received.received)
    return (yield from send_to_cluster(ctx, ring, mine))


def send_to_cluster(
    ctx: DeviceContext, ring: ExpertRing, mine: Mask
) -> Generator[Step, Inbox, Masks]:
    """In each cluster the lowest member of every block sends its mask to those that do not know it."""
    own_id = ctx.info.id
    block = ring.blocks[own_id]
    senders = ring.senders_of(ring.index)
    unaware = tuple(i for i in ring.others if block not in ring.knows[i])
    messages = [mask_message(ctx, mine, unaware)] if unaware and senders[block] == own_id else []
    wait_for = tuple(sorted(i for b, i in senders.items() if b not in ring.knows[own_id]))
    received = yield from ctx.network.exchange(messages, wait_for)
    masks = {ring.blocks[each.source]: Mask.from_dense(each.received) for each in received}
    ring.learn_masks({block: mine, **masks})
    return {b: ring.masks[b] for b in sorted(ring.blocks_of(ring.index))}


def choose_in_turn(
    ctx: DeviceContext, ring: ExpertRing, choose: Callable[[BoolArray], Mask]
) -> Generator[Step, Inbox, Masks]:
    """Leads choose one after the other, in seeded order, among entries that no block near them has taken.

    `choose` gets the free coordinates [N]. Blocks are near when some cluster holds both; so no two
    masks of a cluster overlap. One exchange per block.
    """
    blocks = sorted(set(ring.blocks))
    order = [blocks[i] for i in stream(ctx.info.seed, "mask_order").permutation(len(blocks))]
    masks: Masks = {}
    own_id = ctx.info.id
    for block in order:
        lead = ring.blocks.index(block)
        needing = _devices_needing(ring, block)
        if own_id == lead:
            near = _near(ring, block)
            taken_N = np.zeros(ctx.model.adapted.layout.size, dtype=np.bool_)
            for other in near & masks.keys():
                taken_N |= masks[other].dense
            masks[block] = choose(~taken_N)
            receivers = tuple(sorted(needing - {own_id}))
            messages = [mask_message(ctx, masks[block], receivers)] if receivers else []
            yield from ctx.network.exchange(messages, ())
        else:
            wait_for = (lead,) if own_id in needing else ()
            for received in (yield from ctx.network.exchange([], wait_for)):
                masks[block] = Mask.from_dense(received.received)
    ring.learn_masks(masks)
    return {block: masks[block] for block in sorted(ring.blocks_of(ring.index))}


def _near(ring: ExpertRing, block: int) -> set[int]:
    """The other blocks with which a block shares some cluster."""
    held = [ring.blocks_of(c) for c in range(len(ring.clusters))]
    return set().union(*(blocks for blocks in held if block in blocks)) - {block}


def _devices_needing(ring: ExpertRing, block: int) -> set[int]:
    """Devices that need a block's mask: all in clusters that hold it, and the leads of blocks near it."""
    clusters = [c for c in range(len(ring.clusters)) if block in ring.blocks_of(c)]
    members = {i for c in clusters for i in ring.clusters[c]}
    return members | {ring.blocks.index(other) for other in _near(ring, block)}
