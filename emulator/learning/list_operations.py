"""Operations on short lists: the embedded backbone knows them, and the synthetic tasks consist of them.

This file needs NumPy only. The pretraining of the tiny backbone and the synthetic tasks both import it,
so that both use the same operations and neither imports the other.

A prompt is `head : items ->`, and its answer is a list of the same length. The head is the name of the
operation, or a *tag* without a meaning of its own: a device has to learn which operation a tag stands
for. Operations of one format have the same prompts and different answers; this is the conflict between
tasks.

Shapes: S lists, n items of each list.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from emulator.core.rng import Stream
from emulator.core.types.arrays import IndexArray

PAD, END, UNKNOWN = "<pad>", "<end>", "<unk>"
"""Special tokens; END is the last token of every answer."""

SEPARATOR, ARROW = ":", "->"
MIN_ITEMS, MAX_ITEMS = 4, 7
"""Smallest and largest number of items of a list."""


@dataclass(frozen=True)
class Format:
    """The symbols of a list. `distinct`: no item occurs twice in a list."""

    name: str
    symbols: tuple[str, ...]
    distinct: bool

    def draw(self, num_lists: int, num_items: int, stream: Stream) -> IndexArray:
        """Uniform random lists as indices into `symbols` [S, n]."""
        base = len(self.symbols)
        if self.distinct:
            order = stream.random((num_lists, base)).argsort(axis=1, kind="stable")
            return order[:, :num_items].astype(np.int64)
        return stream.integers(0, base, (num_lists, num_items), dtype=np.int64)

    def write(self, items: IndexArray) -> str:
        """One list [n] as text: its symbols, separated by single spaces."""
        return " ".join(self.symbols[i] for i in items)


LETTERS = Format("letters", tuple("abcdefghijklmnop"), distinct=True)
DIGITS = Format("digits", tuple("0123456789"), distinct=False)


@dataclass(frozen=True)
class Operation:
    """A named function of lists: indices [S, n] -> indices [S, n], list by list."""

    name: str
    format: Format
    apply: Callable[[IndexArray], IndexArray]


def _permute(order: Callable[[int], IndexArray]) -> Callable[[IndexArray], IndexArray]:
    """An operation that only moves items: output position i takes the input item order(n)[i]."""
    return lambda lists_Sn: lists_Sn[:, order(lists_Sn.shape[1])]


def _shift(distance: int, base: int) -> Callable[[IndexArray], IndexArray]:
    """An operation that replaces every symbol with the one `distance` places further, cyclically."""
    return lambda lists_Sn: (lists_Sn + distance) % base


def _positions(num_items: int) -> IndexArray:
    return np.arange(num_items, dtype=np.int64)


def _pairs_swapped(num_items: int) -> IndexArray:
    """1 0 3 2 …; the last item of an odd number of items keeps its place."""
    order = _positions(num_items)
    order[: num_items - num_items % 2] ^= 1
    return order


def _ends_swapped(num_items: int) -> IndexArray:
    order = _positions(num_items)
    order[[0, -1]] = order[[-1, 0]]
    return order


def _evens_first(num_items: int) -> IndexArray:
    """0 2 4 … 1 3 5 …"""
    order = _positions(num_items)
    return np.concatenate([order[::2], order[1::2]])


def _differences(lists_Sn: IndexArray) -> IndexArray:
    """First item, then every item minus the one before it, modulo 10."""
    return np.diff(lists_Sn, axis=1, prepend=0) % len(DIGITS.symbols)


def _make_letter_operations() -> tuple[Operation, ...]:
    base = len(LETTERS.symbols)
    functions: dict[str, Callable[[IndexArray], IndexArray]] = {
        "copy": np.copy,
        "reverse": _permute(lambda n: _positions(n)[::-1]),
        "sort": lambda lists_Sn: np.sort(lists_Sn, axis=1),
        "sort_descending": lambda lists_Sn: np.sort(lists_Sn, axis=1)[:, ::-1],
        "rotate": _permute(lambda n: np.roll(_positions(n), -1)),
        "rotate_back": _permute(lambda n: np.roll(_positions(n), 1)),
        "successor": _shift(1, base),
        "predecessor": _shift(-1, base),
        "swap_pairs": _permute(_pairs_swapped),
        "swap_ends": _permute(_ends_swapped),
        "evens_first": _permute(_evens_first),
    }
    return tuple(Operation(name, LETTERS, apply) for name, apply in functions.items())


def _make_digit_operations() -> tuple[Operation, ...]:
    base = len(DIGITS.symbols)
    functions: dict[str, Callable[[IndexArray], IndexArray]] = {
        "echo": np.copy,
        "mirror": _permute(lambda n: _positions(n)[::-1]),
        "increment": _shift(1, base),
        "decrement": _shift(-1, base),
        "complement": lambda lists_Sn: base - 1 - lists_Sn,
        "double": lambda lists_Sn: 2 * lists_Sn % base,
        "running_sum": lambda lists_Sn: np.cumsum(lists_Sn, axis=1) % base,
        "running_max": lambda lists_Sn: np.maximum.accumulate(lists_Sn, axis=1),
        "differences": _differences,
    }
    return tuple(Operation(name, DIGITS, apply) for name, apply in functions.items())


OPERATIONS: dict[str, Operation] = {
    each.name: each for each in (*_make_letter_operations(), *_make_digit_operations())
}
"""All operations that the backbone learns in pretraining, by name."""

IDENTITIES = ("copy", "echo")
"""The operations that the backbone applies for an unknown tag; they are therefore not tasks."""

TASK_NAMES = tuple(name for name in OPERATIONS if name not in IDENTITIES)

TAGS = tuple(f"tag{number:02d}" for number in range(len(OPERATIONS)))

VOCABULARY: tuple[str, ...] = (
    *(PAD, END, UNKNOWN, SEPARATOR, ARROW),
    *LETTERS.symbols,
    *DIGITS.symbols,
    *OPERATIONS,
    *TAGS,
)
"""Every token, in the order of its id; a token is a word between spaces."""


def tag_of(name: str) -> str:
    """The tag of an operation in every prompt of its task."""
    return TAGS[tuple(OPERATIONS).index(name)]


def prompt_text(head: str, items: str) -> str:
    """The text of a prompt, `head : items ->`."""
    return f"{head} {SEPARATOR} {items} {ARROW}"
