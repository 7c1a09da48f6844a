"""The wire format: messages to packets and back.

`WireFormat.encode(message)` returns packets, `split_burst(data)` the surviving packets of each message,
and `decode(packets_data, known, arrival_s)` the message that a receiver gets. Read packets.py first: it
defines the byte layout of packets. mask_coding.py defines that of mask pieces, and quantisation.py the
rounding of numbers.
"""

from emulator.network.wire.decoder import decode
from emulator.network.wire.encoder import WireFormat
from emulator.network.wire.packets import MESSAGE_HEADER_BYTES, split_burst
from emulator.network.wire.quantisation import count_tensors, quantise, round_trip

__all__ = [
    "MESSAGE_HEADER_BYTES",
    "WireFormat",
    "count_tensors",
    "decode",
    "quantise",
    "round_trip",
    "split_burst",
]
