"""The wire: messages to packets and back.

`WireFormat.encode(message)` gives packets, `split_burst(data)` the surviving ones of each message,
and `decode(packets_data, known, arrival_s)` what a receiver makes of them. Read packets.py first: it
holds the byte layout; masks.py that of mask pieces; values.py how numbers are rounded.
"""

from emulator.wire.codec import WireFormat
from emulator.wire.decoding import decode
from emulator.wire.packets import MESSAGE_HEADER_BYTES, split_burst
from emulator.wire.values import quantise, round_trip, tensors_of

__all__ = [
    "MESSAGE_HEADER_BYTES",
    "WireFormat",
    "decode",
    "quantise",
    "round_trip",
    "split_burst",
    "tensors_of",
]
