"""How devices come to know each other's masks: each block's lead chooses, and tells who needs to know.

A *block* is a projection and its mask; its *lead* is the lowest device that holds it. Shapes: N
coordinates of all B.
"""

from collections.abc import Callable, Generator

import numpy as np

from emulator.core.errors import ScenarioError
from emulator.core.protocols.method import Own
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
    own: Own, ring: ExpertRing, choose: Callable[[], Mask]
) -> Generator[Step, Inbox, Masks]:
    """Every lead chooses by itself and tells its block; then each cluster hears of its blocks."""
    block = ring.blocks[own.id]
    lead = ring.blocks.index(block)
    if own.id == lead:
        mine = choose()
        peers = tuple(i for i, b in enumerate(ring.blocks) if b == block and i != own.id)
        yield from own.exchange([mask_message(own, mine, peers)] if peers else [], ())
    else:
        (told,) = yield from own.exchange([], (lead,))
        mine = Mask.from_dense(told.received)
    return (yield from tell_cluster(own, ring, mine))


def tell_cluster(own: Own, ring: ExpertRing, mine: Mask) -> Generator[Step, Inbox, Masks]:
    """In each cluster the lowest member of every block tells its mask to those to whom it is news."""
    block = ring.blocks[own.id]
    tellers = ring.tellers(ring.index)
    strangers = tuple(i for i in ring.others if block not in ring.knows[i])
    speaks = bool(strangers) and tellers[block] == own.id
    wait_for = tuple(sorted(i for b, i in tellers.items() if b not in ring.knows[own.id]))
    messages = [mask_message(own, mine, strangers)] if speaks else []
    received = yield from own.exchange(messages, wait_for)
    heard = {ring.blocks[told.source]: Mask.from_dense(told.received) for told in received}
    ring.meet({block: mine, **heard})
    return {b: ring.masks[b] for b in sorted(ring.blocks_of(ring.index))}


def choose_in_turn(
    own: Own, ring: ExpertRing, choose: Callable[[BoolArray], Mask]
) -> Generator[Step, Inbox, Masks]:
    """Leads choose one after the other, in seeded order, among what nobody near them has taken.

    `choose` gets the free coordinates [N]. Blocks are near when some cluster holds both; so no two
    masks of a cluster overlap. One exchange per block.
    """
    blocks = sorted(set(ring.blocks))
    order = [blocks[i] for i in stream(own.seed, "mask_order").permutation(len(blocks))]
    masks: Masks = {}
    for block in order:
        lead = ring.blocks.index(block)
        audience = _audience(ring, block)
        if own.id == lead:
            near = _near(ring, block)
            taken_N = np.zeros(own.adapted.layout.size, dtype=np.bool_)
            for other in near & masks.keys():
                taken_N |= masks[other].dense
            masks[block] = choose(~taken_N)
            receivers = tuple(sorted(audience - {own.id}))
            messages = [mask_message(own, masks[block], receivers)] if receivers else []
            yield from own.exchange(messages, ())
        else:
            wait_for = (lead,) if own.id in audience else ()
            for told in (yield from own.exchange([], wait_for)):
                masks[block] = Mask.from_dense(told.received)
    ring.meet(masks)
    return {block: masks[block] for block in sorted(ring.blocks_of(ring.index))}


def _near(ring: ExpertRing, block: int) -> set[int]:
    """The other blocks with which a block shares some cluster."""
    held = [ring.blocks_of(c) for c in range(len(ring.clusters))]
    return set().union(*(blocks for blocks in held if block in blocks)) - {block}


def _audience(ring: ExpertRing, block: int) -> set[int]:
    """Who has to know a block's mask: all in clusters that hold it, and the leads of blocks near it."""
    clusters = [c for c in range(len(ring.clusters)) if block in ring.blocks_of(c)]
    members = {i for c in clusters for i in ring.clusters[c]}
    return members | {ring.blocks.index(other) for other in _near(ring, block)}
