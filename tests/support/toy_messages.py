"""Messages that tests encode and send."""

from emulator.core.types.adapter import AdapterLayout, Mask
from emulator.core.types.arrays import ByteArray, FloatArray
from emulator.core.types.message import Kind, Message, Traffic, ValueType


def values_message(
    layout: AdapterLayout,
    mask: Mask,
    values: FloatArray | ByteArray | None,
    value_type: ValueType | None = ValueType.FLOAT32,
    **changes: object,
) -> Message:
    """What device 0 sends device 1 in round 3: the values [n] at the n coordinates of a mask.

    value_type None sends the mask alone. The receiver knows the mask, packets may be lost; `changes` are
    other fields of the message.
    """
    fields = {
        "kind": Kind.VALUES, "traffic": Traffic.IN_CLUSTER, "source": 0, "origin": 0,
        "round_index": 3, "receivers": (1,), "mask_known": True, "reliable": False,
    } | changes  # fmt: skip
    sent = None if value_type is None else values
    number_type = value_type or ValueType.FLOAT32
    return Message(layout=layout, mask=mask, values=sent, value_type=number_type, **fields)
