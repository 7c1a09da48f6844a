"""The wire: messages to packets and back.

`WireFormat.encode(message)` gives packets, `split_burst(data)` the surviving ones of each message,
and `decode(packets_data, known, arrival_s)` what a receiver makes of them. Read packets.py first: it
holds the byte layout; mask_coding.py that of mask pieces; quantisation.py how numbers are rounded.
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
