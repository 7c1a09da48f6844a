"""What a device leaves behind comes back equal, and foreign bytes are refused."""

import json
import struct
from dataclasses import fields
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from emulator.core.errors import EmulatorError
from emulator.core.types.records import LinkRecord, MetricRecord
from emulator.core.types.result import DeviceResult, Expert, ExpertForm
from emulator.core.types.survey import Link
from emulator.runtime.drivers.lifecycle import LifeOutcome
from emulator.runtime.result_codec import Cost, decode_result, encode_result

numbers = st.floats(allow_nan=False)
counts = st.integers(0, 2**53)
words = st.text(min_size=1, max_size=8)
tensors = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
    arrays(np.float32, array_shapes(max_dims=3, max_side=4), elements=st.floats(width=32)),
    max_size=3,
)
experts = st.builds(
    Expert,
    task=words,
    samples=counts,
    scaling=numbers,
    tensors=tensors,
    form=st.sampled_from(get_args(ExpertForm)),
)
link_records = st.builds(
    LinkRecord,
    **{
        field.name: {"int": counts, "float": numbers, "str": words, "bool": st.booleans()}[
            field.type if isinstance(field.type, str) else field.type.__name__
        ]
        for field in fields(LinkRecord)
    },
)
results = st.builds(
    DeviceResult,
    device=st.integers(0, 1023),
    own_expert=experts,
    experts=st.lists(experts, max_size=12).map(tuple),
    router=tensors,
    records=st.lists(
        st.builds(MetricRecord, counts, counts, words, words, numbers), max_size=3
    ).map(tuple),
    links=st.lists(st.builds(Link, counts, counts, numbers), max_size=3).map(tuple),
    clusters=st.lists(st.lists(counts, max_size=3).map(tuple), max_size=3).map(tuple),
    emulated_s=numbers,
    compute_energy_j=numbers,
    train_cpu_s=numbers,
)
costs = st.builds(Cost, numbers, numbers, numbers, counts)


def assert_same_tensors(got, wanted):
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert got[name].dtype == tensor.dtype
        assert np.array_equal(got[name], tensor, equal_nan=True)


def assert_same_expert(got, wanted):
    for name in ("task", "samples", "scaling", "form"):
        assert getattr(got, name) == getattr(wanted, name)
    assert_same_tensors(got.tensors, wanted.tensors)


@settings(max_examples=50, deadline=None)
@given(results, st.lists(link_records, max_size=3).map(tuple), costs)
def test_unpack_is_the_inverse_of_pack(result, records, cost):
    blob = encode_result(LifeOutcome(result, records), cost)
    assert blob == encode_result(LifeOutcome(result, records), cost)
    outcome, cost_again = decode_result(blob)
    assert cost_again == cost
    assert outcome.link_records == records
    again = outcome.result
    plain = (
        "device",
        "records",
        "links",
        "clusters",
        "emulated_s",
        "compute_energy_j",
        "train_cpu_s",
    )
    for name in plain:
        assert getattr(again, name) == getattr(result, name)
    assert_same_expert(again.own_expert, result.own_expert)
    assert len(again.experts) == len(result.experts)
    for got, wanted in zip(again.experts, result.experts, strict=True):
        assert_same_expert(got, wanted)
    assert_same_tensors(again.router, result.router)


def small_result(**tensors):
    expert = Expert("sort", 3, 2.0, {"m.lora_A": np.ones((2, 3), dtype=np.float32)} | tensors)
    return DeviceResult(0, expert, (expert,), {}, (), (), (), 1.0, 2.0, 3.0, 1)


def small_blob():
    return encode_result(LifeOutcome(small_result(), ()), Cost(1.0, 2.0, 3.0, {"frames": 4.0}))


def with_document(text):
    blob = small_blob()
    (length,) = struct.unpack_from("<Q", blob)
    return struct.pack("<Q", len(text)) + text.encode() + blob[8 + length :]


NO_RESULTS = {
    "nothing": b"",
    "half a length": b"\0\1\2",
    "a length that lies": small_blob()[:100],
    "no JSON": small_blob()[:8] + b"x" * 300,
}
TORN_RESULTS = {
    "no tensors": small_blob()[: 8 + struct.unpack_from("<Q", small_blob())[0]],
    "a byte short": small_blob()[:-1],
    "half the tensors": small_blob()[:-60],
    "another document": with_document(json.dumps({"device": 0})),
    "a list": with_document("[]"),
}


@pytest.mark.parametrize("blob", NO_RESULTS.values(), ids=NO_RESULTS)
def test_foreign_bytes_are_refused_with_their_number(blob):
    with pytest.raises(EmulatorError, match=f"result of a device: got {len(blob)} bytes"):
        decode_result(blob)


@pytest.mark.parametrize("blob", TORN_RESULTS.values(), ids=TORN_RESULTS)
def test_torn_bytes_are_refused(blob):
    with pytest.raises(EmulatorError, match="result of a device"):
        decode_result(blob)


STRIDED = {
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "part of a row": np.arange(6, dtype=np.float32).reshape(2, 3)[:, :2],
    "backwards": np.arange(6, dtype=np.float32)[::-1],
}


@pytest.mark.parametrize("tensor", STRIDED.values(), ids=STRIDED)
def test_an_array_of_any_strides_comes_back(tensor):
    outcome, _ = decode_result(
        encode_result(LifeOutcome(small_result(x=tensor), ()), Cost(1.0, 2.0, 3.0, {"frames": 4.0}))
    )
    assert np.array_equal(outcome.result.own_expert.tensors["x"], tensor)


def test_a_router_comes_back():
    from emulator.learning.routing import RidgeLda

    router = RidgeLda()
    states_Sp = np.random.default_rng(0).standard_normal((40, 5))
    statistics = router.statistics(states_Sp, [sample % 3 for sample in range(40)], 3)
    tensors = router.fit(statistics, states_Sp, 3)
    result = DeviceResult(0, small_result().own_expert, (), tensors, (), (), (), 1.0, 2.0, 3.0, 1)
    outcome, _ = decode_result(
        encode_result(LifeOutcome(result, ()), Cost(1.0, 2.0, 3.0, {"frames": 4.0}))
    )
    assert_same_tensors(outcome.result.router, tensors)
