"""Feeds mutated messages, scenarios and run folders to the code that reads them.

    python tests/benchmarks/fuzz.py messages --mutants 1000000
    python tests/benchmarks/fuzz.py scenarios --mutants 100000
    python tests/benchmarks/fuzz.py folders --mutants 10000 --run runs/quickstart-lora-1

What is read must be accepted, or refused with the error that its reader documents; anything else is
printed with the number of its mutant, and the exit code is 1. The same seed makes the same mutants.
"""

import argparse
import copy
import random
import resource
import shutil
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from emulator.core.errors import EmulatorError, ScenarioError, WireError
from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.message import Kind, Known, Message, Traffic, ValueType
from emulator.network.wire import WireFormat, decode, split_burst

ROOT = Path(__file__).resolve().parents[2]
MOST_SHOWN = 20
SLOW_S = 5.0
"""A mutant that takes longer counts as a fault."""

LAYOUT = AdapterLayout(("a", "b", "c"), ((300,), (1000,), (700,)))
MASK = Mask.from_dense(np.random.default_rng(5).random(LAYOUT.size) < 0.3)
EDGES = (0, 1, 2, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1)
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e-300, 1e300, 10**40, float("inf"), float("nan")),
    *("", " ", "x", "ideal", "../x", "a:b", "é", "0x_", "1:30", "2026-02-30", "x" * 5000, "lora"),
    *([], {}, [1], [[]], {"kind": "x"}, {"kind": "lora"}, {1: 2}, [None], ["reverse", "reverse"]),
)

Attempt = Callable[[random.Random], bool]
"""Makes one mutant and reads it; returns whether it was accepted. Raises what counts as a fault."""


# ── messages ─────────────────────────────────────────────────────────────────────────────────────


def build_messages() -> list[list[bytes]]:
    """Messages of every kind, number type and mask coding, as packets."""
    messages = []
    for kind in Kind:
        for value_type in ValueType:
            for known in (False, True):
                for interleave in (False, True):
                    values = np.linspace(-1, 1, MASK.count, dtype=np.float32)
                    message = Message(
                        kind, Traffic.IN_CLUSTER, 0, 0, 1, (1,), LAYOUT, MASK, values, value_type,
                        known, False,
                    )  # fmt: skip
                    wire = WireFormat(mtu_bytes=400, interleave=interleave)
                    try:
                        packets = wire.encode(message)
                    except (EmulatorError, ValueError):  # a kind without this number type
                        continue
                    messages.append([packet.data for packet in packets])
    return messages


def seal(packets: Sequence[bytearray]) -> list[bytes]:
    """The same packets with checksums that fit, as far as they have room for one."""
    done: list[bytes] = []
    start = 0
    for packet in packets:
        crc = zlib.crc32(packet[4:], start)
        done.append(
            (crc.to_bytes(4, "little") + bytes(packet[4:])) if len(packet) > 4 else bytes(packet)
        )
        start = int.from_bytes(done[0][:4], "little")
    return done


def mutate_packets(draw: random.Random, messages: Sequence[Sequence[bytes]]) -> list[bytes]:
    """One to four changes to a message; half of all mutants get checksums that fit."""
    packets = [bytearray(packet) for packet in draw.choice(messages)]
    for _ in range(draw.randint(1, 4)):
        packet = draw.choice(packets)
        place = draw.randrange(min(len(packet), draw.choice((80, len(packet)))) or 1)
        match draw.randrange(7):
            case 0:
                packet[place : place + 1] = bytes([draw.randrange(256)])
            case 1:
                width = draw.choice((1, 2, 4, 8))
                packet[place : place + width] = (draw.choice(EDGES) % 256**width).to_bytes(
                    width, "little"
                )
            case 2:
                del packet[place:]
            case 3:
                other = draw.choice(draw.choice(messages))
                packet[place:] = other[place : place + draw.randrange(200)]
            case 4:
                draw.shuffle(packets)
            case 5:
                packets.append(bytearray(draw.choice(packets)))
            case 6:
                packet += draw.randbytes(draw.randrange(40))
    return seal(packets) if draw.random() < 0.5 else [bytes(packet) for packet in packets]


def fuzz_messages(options: argparse.Namespace) -> Attempt:
    """Mutants of messages, to `decode` as packets, or to `split_burst` as one burst."""
    messages = build_messages()
    known = [Known.of(LAYOUT, MASK), Known.of()]

    def attempt(draw: random.Random) -> bool:
        packets = mutate_packets(draw, messages)
        groups = [packets]
        try:
            if draw.random() < 0.5:
                groups = [list(group) for group in split_burst(b"".join(packets))]
            for group in groups:
                decode(group, draw.choice(known), 0.0)
        except WireError:
            return False
        return True

    return attempt


# ── scenarios ────────────────────────────────────────────────────────────────────────────────────


def walk(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from walk(tree[key])


def mutate_tree(draw: random.Random, tree: Any) -> None:
    """Replace, remove, rename or move one value."""
    places = list(walk(tree))
    if not places:
        return
    container, key = draw.choice(places)
    match draw.randrange(4):
        case 0 | 1:
            container[key] = copy.deepcopy(draw.choice(ODD))
        case 2:
            del container[key]
        case 3 if isinstance(container, dict):
            container[draw.choice((str(key) + "s", str(key)[1:], 7, None))] = container.pop(key)


def mutate_text(draw: random.Random, text: bytes) -> bytes:
    """Replace, remove or repeat some bytes."""
    data = bytearray(text)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(data) or 1)
        length = draw.randrange(1, 12)
        match draw.randrange(3):
            case 0:
                data[place : place + length] = draw.choice(
                    (
                        b"{",
                        b"}",
                        b"[",
                        b"&a ",
                        b"*a",
                        b"!!x ",
                        b"\t",
                        b"\x00",
                        b"\xff",
                        b"- ",
                        b": ",
                        b"<<: ",
                    )
                )
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = data[place : place + length] * 3
    return bytes(data)


def fuzz_scenarios(options: argparse.Namespace) -> Attempt:
    """Mutants of the shipped scenarios, as trees, as text, and with values set on the command line."""
    from emulator.scenario.load import read_scenario
    from emulator.scenario.schema import Scenario

    texts = [path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml"))]
    path = Path(tempfile.mkdtemp()) / "mutant.yaml"
    keys = [
        f"{a}.{b}" for a in Scenario.model_fields for b in ("kind", "name", "seed", "steps", "x")
    ]

    def attempt(draw: random.Random) -> bool:
        text = draw.choice(texts)
        if draw.random() < 0.7:
            tree = yaml.safe_load(text)
            for _ in range(draw.randint(1, 3)):
                mutate_tree(draw, tree)
            text = yaml.safe_dump(tree, allow_unicode=True).encode()
        else:
            text = mutate_text(draw, text)
        path.write_bytes(text)
        overrides = [f"{draw.choice(keys)}={draw.choice(ODD)}"] if draw.random() < 0.2 else []
        try:
            read_scenario(path, overrides)
        except ScenarioError as error:
            if not error.problems or any("\n" in problem for problem in error.problems):
                raise ValueError(f"not one line for each problem: {error.problems}") from error
            return False
        return True

    return attempt


# ── folders ──────────────────────────────────────────────────────────────────────────────────────


def fuzz_folders(options: argparse.Namespace) -> Attempt:
    """Mutants of a run's folder: one file changed, then read by report, compare, ledger and resume."""
    from emulator.analysis.ledger.report import build_ledger_tables, format_ledger_json
    from emulator.analysis.run_tables import build_confusion_table, compare_runs
    from emulator.runtime.resuming import Resumption, plan_resumption

    folder = Path(tempfile.mkdtemp()) / "run"
    shutil.copytree(options.run, folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size < 2_000_000)
    files = [p for p in files if "adapters" not in p.parts and "experts" not in p.parts]
    readers: list[Callable[[], object]] = [
        lambda: compare_runs([folder]),
        lambda: build_confusion_table(folder),
        lambda: build_ledger_tables(folder, "link"),
        lambda: format_ledger_json(folder, None),
        lambda: plan_resumption(Resumption(folder, "one_process", rounds=10_000)),
    ]

    def attempt(draw: random.Random) -> bool:
        changed = draw.choice(files)
        before = changed.read_bytes()
        changed.write_bytes(mutate_text(draw, before))
        accepted = True
        try:
            for reader in readers:
                try:
                    reader()
                except EmulatorError:
                    accepted = False
        finally:
            changed.write_bytes(before)
        return accepted

    return attempt


# ── the command ──────────────────────────────────────────────────────────────────────────────────

FUZZERS = {"messages": fuzz_messages, "scenarios": fuzz_scenarios, "folders": fuzz_folders}


def run(attempt: Attempt, seed: int, mutants: int) -> tuple[Counter[str], float]:
    """Read all mutants; return how many were accepted, refused or faulty, and the longest time [s]."""
    counts: Counter[str] = Counter()
    slowest_s = 0.0
    for number in range(mutants):
        began_s = time.perf_counter()
        try:
            is_accepted = attempt(random.Random(f"{seed}/{number}"))
            outcome, why = "accepted" if is_accepted else "refused", ""
        except Exception as error:  # any other exception is what is looked for
            outcome, why = "faulty", f"{type(error).__name__}: {str(error)[:200]}"
        took_s = time.perf_counter() - began_s
        if took_s > SLOW_S:
            outcome, why = "faulty", f"{why} {took_s:.1f} s"
        if why and counts["faulty"] < MOST_SHOWN:
            print(f"mutant {number}: {why}", file=sys.stderr)
        counts[outcome] += 1
        slowest_s = max(slowest_s, took_s)
    return counts, slowest_s


def main() -> int:
    """Read the command line, run, print one line of counts."""
    parser = argparse.ArgumentParser(description="Feed mutated input to the code that reads it.")
    parser.add_argument("what", choices=FUZZERS)
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", type=Path, help="folder of a finished run, for folders")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    attempt = FUZZERS[options.what](options)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts, slowest_s = run(attempt, options.seed, options.mutants)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    parts = ", ".join(f"{counts[name]} {name}" for name in ("accepted", "refused", "faulty"))
    print(
        f"{options.what}: {sum(counts.values())} mutants of seed {options.seed}: {parts}; slowest "
        f"{slowest_s * 1e3:.0f} ms; peak memory grew by {grown_mb:.0f} MiB"
    )
    return 1 if counts["faulty"] else 0


if __name__ == "__main__":
    sys.exit(main())
