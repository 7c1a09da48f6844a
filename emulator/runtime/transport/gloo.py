"""Bursts between processes. Only this file, `process_group`, `store` and `nccl` use torch.distributed.

What gloo requires, and how it is met:
- A wait that times out closes every connection of the process. So a burst is always sent, even empty,
  the timeout is long, and a wait is broken off only to end the run.
- A connection is made on first use, and its listening side then blocks until the other side connects.
  So two devices signal each other over the store before either uses the connection.
- A send ends when its receive is posted, and is fast only if the receive was posted before. So a device
  posts all receives before its first send, likely ones an exchange early, and waits for sends last.
"""

import ctypes
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Work  # type: ignore[attr-defined]

from emulator.core.errors import ProtocolError
from emulator.core.types.steps import Send
from emulator.core.types.transmission import Burst
from emulator.runtime.drivers.pacing import Pacer, schedule_frames
from emulator.runtime.transport.async_mailbox import Mailbox
from emulator.runtime.transport.deadlock import StallWatch, StateBoard
from emulator.runtime.transport.frames import (
    HEADER_BYTES,
    MOST_EXCHANGES,
    build_frames,
    build_header,
    read_header,
)
from emulator.runtime.transport.nccl import GpuTransfers
from emulator.runtime.transport.peers import Address, PeerErrorContext, Timeouts
from emulator.runtime.transport.process_group import (
    BREAK_TAG,
    BURST_TAG,
    GATHER_TAG,
    open_stream,
    receive_frame,
    send_frame,
)
from emulator.runtime.transport.receive_stream import ReceiveStream
from emulator.runtime.transport.receive_stream import Work as Waitable
from emulator.runtime.transport.store import (
    LEFT_KEY,
    SHUTDOWN_BARRIER_S,
    Notes,
    Wait,
    await_keys,
    join_run,
    open_store,
)

_STORE_SLICE_S = 1.0
MOST_UNDER_WAY = 256
"""The most frames under way in gossip, where no device waits: 16 MiB for each device."""


class Transport:
    """Carries bursts between processes, and counts the bytes that it passes to torch.distributed.

    A context manager: a normal exit waits for all devices, an exit by an exception does not.
    """

    def __init__(
        self,
        process_rank: int,
        world_size: int,
        address: Address,
        timeouts: Timeouts,
        idle: Callable[[], AbstractContextManager[None]] = nullcontext,
        terms: Mapping[str, str] | None = None,
    ) -> None:
        """Connect to the store of a run, which must be served already, and join its devices.

        idle: entered while this device waits. terms: settings that must be equal in all processes; None:
        not compared. Raises EmulatorError when the store is not reached in time, and as `join_run` does.
        """
        self._idle = idle
        self.device = process_rank
        self.devices = world_size
        self._handed_over: Counter[tuple[int, int]] = Counter()  # bytes by tag and receiver
        self._bursts_to: Counter[int] = Counter()
        self._store = open_store(address, timeouts.connect_timeout_s)
        if terms is not None:
            with self._idle():
                join_run(self._store, process_rank, world_size, terms, timeouts.stall_timeout_s)
        self._stall_timeout_s = timeouts.stall_timeout_s
        self._connected: set[int] = set()
        self._streams: dict[int, ReceiveStream] = {}
        self._sending: list[tuple[Work, torch.Tensor, int]] = []
        self._mailbox = Mailbox(self._read_next)
        self._gpus: GpuTransfers | None = None
        self._first_index = 0
        self._gathers = 0
        self._barriers = 0
        os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
        dist.init_process_group(
            "gloo",
            store=PrefixStore("gloo", self._store),
            rank=process_rank,
            world_size=world_size,
            timeout=timedelta(seconds=timeouts.stall_timeout_s),
        )
        board = StateBoard(lambda: open_store(address, SHUTDOWN_BARRIER_S))
        self._watch = StallWatch(process_rank, board, self._break_off)
        self.notes = Notes(self._store, self._waiting, self._stall_timeout_s)

    def __enter__(self) -> "Transport":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._abandon()

    def exchange(
        self,
        bursts: Sequence[Burst],
        wait_for: Sequence[int],
        exchange_index: int,
        pacer: Pacer | None = None,
    ) -> list[Burst]:
        """Send every burst and return the one of each device in `wait_for`, in that order.

        Raises ProtocolError when sends and waits of an exchange do not match; PeerFailedError, with
        device and exchange, when a device is lost or sends nothing for stall_timeout_s.
        """
        exchange_index += self._first_index
        if self._first_index:
            bursts = [replace(b, exchange_index=exchange_index) for b in bursts]
        where = f"exchange {exchange_index}"
        receivers = [burst.receiver for burst in bursts]
        self._end_gossip(where)
        with self._idle(), self._watch.exchange(exchange_index, receivers, wait_for):
            self._connect_peers({*receivers, *wait_for}, where)
            if self._gpus is None or pacer is not None:
                received = self._exchange_frames(bursts, wait_for, exchange_index, pacer)
            else:
                received = self._exchange_gpus(self._gpus, bursts, wait_for, exchange_index)
            self._sending.clear()
        self._bursts_to.update(receivers)
        return received

    def use_gpu_transfers(self) -> None:
        """Send the data of later exchanges from GPU to GPU; all devices call it after choosing a GPU.

        Gossip and paced exchanges still use frames. Raises what GpuTransfers raises.
        """
        with self._waiting():
            self._gpus = GpuTransfers(self.device, self.devices, self._stall_timeout_s)

    def _exchange_frames(
        self,
        bursts: Sequence[Burst],
        wait_for: Sequence[int],
        exchange_index: int,
        pacer: Pacer | None,
    ) -> list[Burst]:
        where = f"exchange {exchange_index}"
        streams = [self._stream(sender) for sender in wait_for]
        self._expect(wait_for, streams, where)
        sends = self._send_all(bursts, where, pacer)
        for sender, stream in zip(wait_for, streams, strict=True):
            header = stream.begin(self._waiter(sender, where))
            header.check(exchange_index, sender, self.device)
        received = [
            stream.finish(self._waiter(sender, where))
            for sender, stream in zip(wait_for, streams, strict=True)
        ]
        self._expect(wait_for, streams, where)
        for burst, works in zip(bursts, sends, strict=True):
            self._finish_sends(works, burst.receiver, where)
        return received

    def _exchange_gpus(
        self,
        gpus: GpuTransfers,
        bursts: Sequence[Burst],
        wait_for: Sequence[int],
        exchange_index: int,
    ) -> list[Burst]:
        """Send headers by gloo first, so that a mismatch is reported before a GPU waits for data."""
        where = f"exchange {exchange_index}"
        heads = {sender: torch.empty(HEADER_BYTES, dtype=torch.uint8) for sender in wait_for}
        receives = [receive_frame(head, sender, BURST_TAG) for sender, head in heads.items()]
        sends = [self._send([build_header(b)], b.receiver, BURST_TAG, where) for b in bursts]
        headers = []
        for (sender, head), work in zip(heads.items(), receives, strict=True):
            self._waiter(sender, where)(work)
            headers.append(read_header(head.numpy().data))
            headers[-1].check(exchange_index, sender, self.device)
        for burst, works in zip(bursts, sends, strict=True):
            self._finish_sends(works, burst.receiver, where)
            self._handed_over[BURST_TAG, burst.receiver] += len(burst.data)
        return gpus.exchange(bursts, headers, where)

    def gossip(self, bursts: Sequence[Burst], send: Send, exchange_index: int) -> list[Burst]:
        """Send every burst and return all bursts that have arrived by emulated time `send.now_s`.

        It waits for sends only beyond MOST_UNDER_WAY frames, which bounds memory. That cannot deadlock:
        the receiver of the oldest is at an earlier time, and so does not depend on what this device still
        sends. Raises what `exchange` raises.
        """
        if send.next_s is None:
            raise ProtocolError(f"device {self.device}: got no next_s to promise")
        where = f"exchange {exchange_index}"
        with self._waiting():
            self._connect_peers({*(burst.receiver for burst in bursts), *send.listen_to}, where)
            for burst in bursts:
                self._send(build_frames(burst, send.next_s), burst.receiver, BURST_TAG, where)
            arrived = self._mailbox.take_arrived(send.listen_to, send.now_s)
            self._finish_oldest(MOST_UNDER_WAY, where)
        self._bursts_to.update(burst.receiver for burst in bursts)
        return arrived

    def _read_next(self, sender: int) -> tuple[Burst, float]:
        """Wait for the next burst of a sender in gossip; return it and the time of its next Send [s]."""
        where = f"gossip with device {sender}"
        stream, wait = self._stream(sender), self._waiter(sender, where)
        with self._explained(sender, where):
            stream.expect()
        header = stream.begin(wait)
        return stream.finish(wait), header.next_s

    def _end_gossip(self, where: str) -> None:
        """Receive and drop all gossip bursts that are still under way."""
        with self._waiting():
            self._mailbox.close()
            self._finish_oldest(0, where)

    def _finish_oldest(self, left: int, where: str) -> None:
        """Wait for the oldest sends until at most `left` frames are under way."""
        while len(self._sending) > left:
            work, _, receiver = self._sending[0]
            self._waiter(receiver, where)(work)
            del self._sending[0]

    def gather(self, blob: bytes) -> list[bytes]:
        """Return every device's blob in order at device 0, an empty list at others; all devices call it."""
        index, self._gathers = self._gathers, self._gathers + 1
        where = f"gather {index}"
        with self._waiting():
            if self.device != 0:
                frames = build_frames(Burst(self.device, 0, index, 0.0, blob))
                self._connect_peers({0}, where)
                self._finish_sends(self._send(frames, 0, GATHER_TAG, where), 0, where)
                self._sending.clear()
                return []
            blobs = [blob]
            for sender in range(1, self.devices):
                self._connect_peers({sender}, where)
                stream, wait = open_stream(sender, GATHER_TAG), self._waiter(sender, where)
                stream.expect()
                stream.begin(wait).check(index, sender, self.device)
                blobs.append(stream.finish(wait).data)
            return blobs

    def data_bytes_to(self) -> list[int]:
        """Bytes passed to torch.distributed by receiver, without headers of bursts and without gathers."""
        return [
            self._handed_over[BURST_TAG, device] - HEADER_BYTES * self._bursts_to[device]
            for device in range(self.devices)
        ]

    def start_again(self) -> None:
        """Prepare for the exchanges of another life, which count anew; all devices call it."""
        self._end_gossip("the end of a life")
        self._first_index += MOST_EXCHANGES

    def finish_exchanges(self) -> None:
        """Publish that no exchange follows, so that no other device waits for this one in vain."""
        self._end_gossip("the end")
        self._watch.end()

    def barrier(self) -> None:
        """Wait until all devices call it. It uses the store and makes no connection."""
        name, self._barriers = f"barrier/{self._barriers}", self._barriers + 1
        self._store.set(f"{name}/{self.device}", "")
        with self._waiting():
            self._await_keys({f"{name}/{device}": device for device in range(self.devices)}, name)

    def close(self) -> None:
        """Leave together with all devices. Raises ProtocolError if a burst to this device is left over."""
        try:
            self.finish_exchanges()
            self._store.set(f"shutdown/{self.device}", self._watch.note())
            self.barrier()
            for peer in sorted(self._connected):
                self._watch.check_last_state(peer, self._store.get(f"shutdown/{peer}").decode())
        except BaseException:
            self._abandon()
            raise
        self._watch.close()
        dist.destroy_process_group()
        self._store.add(LEFT_KEY, 1)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Mark that this device waits for others, and so does not compute."""
        with self._idle(), self._watch.waiting():
            yield

    def _abandon(self) -> None:
        """Leave at once and close all connections; gloo would block for ever in destructors of sends."""
        self._watch.close()
        self._break_off()
        for send in self._sending:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(send))

    def _connect_peers(self, peers: set[int], where: str) -> None:
        """Wait until all peers are about to exchange with this device; later calls return at once."""
        fresh = sorted(peers - self._connected)
        if not fresh:
            return
        for peer in fresh:
            self._store.set(f"connect/{self.device}/{peer}", "")
        self._await_keys({f"connect/{peer}/{self.device}": peer for peer in fresh}, where)
        self._connected.update(fresh)

    def _await_keys(self, keys: Mapping[str, int], where: str) -> None:
        """Wait until the store holds all keys; each is set by the peer beside it."""

        def check() -> None:
            if self._watch.verdict is not None:
                raise self._watch.verdict

        wait = Wait(self.device, where, self._stall_timeout_s, _STORE_SLICE_S)
        await_keys(self._store, keys, wait, check)

    def _stream(self, sender: int) -> ReceiveStream:
        """Return the one stream that receives all bursts of a sender."""
        if sender not in self._streams:
            self._streams[sender] = open_stream(sender, BURST_TAG)
        return self._streams[sender]

    def _expect(self, senders: Sequence[int], streams: Sequence[ReceiveStream], where: str) -> None:
        for sender, stream in zip(senders, streams, strict=True):
            with self._explained(sender, where):
                stream.expect()

    def _send_all(
        self, bursts: Sequence[Burst], where: str, pacer: Pacer | None
    ) -> list[list[Work]]:
        """Start the sends of each burst: all at once, or with a pacer each frame when it is due."""
        frames = [build_frames(burst) for burst in bursts]
        if pacer is None:
            return [
                self._send(each, burst.receiver, BURST_TAG, where)
                for each, burst in zip(frames, bursts, strict=True)
            ]
        sends: list[list[Work]] = [[] for _ in bursts]
        for due_s, burst, frame in schedule_frames(bursts, [len(each) for each in frames]):
            pacer.wait_until(due_s)
            receiver = bursts[burst].receiver
            sends[burst] += self._send([frames[burst][frame]], receiver, BURST_TAG, where)
        return sends

    def _send(
        self, frames: Sequence[torch.Tensor], receiver: int, tag: int, where: str
    ) -> list[Work]:
        with self._explained(receiver, where):
            works = [send_frame(frame, receiver, tag) for frame in frames]
        self._handed_over[tag, receiver] += sum(frame.numel() for frame in frames)
        self._sending.extend((*pair, receiver) for pair in zip(works, frames, strict=True))
        return works

    def _finish_sends(self, works: Sequence[Work], receiver: int, where: str) -> None:
        wait = self._waiter(receiver, where)
        for work in works:
            wait(work)

    def _waiter(self, peer: int, where: str) -> Callable[[Waitable], None]:
        """Return a function that waits for an operation with a peer and raises PeerFailedError."""
        explained = self._explained(peer, where)

        def wait(work: Waitable) -> None:
            with explained:
                work.wait()

        return wait

    def _explained(self, peer: int, where: str) -> PeerErrorContext:
        timeout_s = self._stall_timeout_s
        return PeerErrorContext(self.device, peer, where, timeout_s, lambda: self._watch.verdict)

    def _break_off(self) -> None:
        """End every wait of this process, from any thread: a timeout closes all its connections."""
        for peer in sorted(self._connected):
            with suppress(RuntimeError):
                never = receive_frame(torch.empty(1, dtype=torch.uint8), peer, BREAK_TAG)
                never.wait(timedelta(milliseconds=1))
