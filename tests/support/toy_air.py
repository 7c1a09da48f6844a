"""Small airs: packets, one sender's grants, and a link of one rate."""

import math

from emulator.core.types.packet import Packet, air_bytes
from emulator.core.types.transmission import Grant, Request
from emulator.network.channel.access import OfdmaAccess
from emulator.network.channel.energy import FixedPower
from emulator.network.channel.fading import NoFading
from emulator.network.channel.model import Wireless
from emulator.network.channel.pathloss import NoPathLoss
from emulator.network.channel.rates import FixedRate

BAND_HZ = 25e3


def packets_of(count: int, reliable: tuple[int, ...] = (), size: int = 1472) -> tuple[Packet, ...]:
    return tuple(
        Packet(
            data=bytes(size),
            header_bytes=20,
            checksum_bytes=4,
            mask_bytes=0,
            payload_bytes=size - 24,
            reliable=index in reliable,
        )
        for index in range(count)
    )


def send_by_access(channel, sender, receivers, packets, exchange_index=0, access=None):
    """Grants with powers of one sender for the same packets to each receiver."""
    access = access or OfdmaAccess(bandwidth_hz=BAND_HZ)
    requests = [
        Request(sender, (receiver,), air_bytes(packets), 10.0, exchange_index)
        for receiver in receivers
    ]
    return channel.set_powers(access.plan(requests), requests)


def slow_link(bit_per_s: float, devices=2, **fields):
    """Two or more devices whose rate is fixed, without geometry; acknowledgements take no time."""
    return Wireless(
        path_loss=NoPathLoss(),
        fading=NoFading(),
        rate=FixedRate(link_bit_per_s=bit_per_s),
        power=FixedPower(power_w=0.1),
        **{"acks": "free"} | fields,
    ).bind(devices, seed=4)


GRANT = Grant(0, (1,), 10.0, math.inf, 0.1, 0)
PACKET_BITS = 12_000  # 1472 + 28 bytes
