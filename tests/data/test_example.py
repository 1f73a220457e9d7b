"""The Example encoder against protobuf, the reader against the encoder, and both against nonsense."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.data import example
from vidrec.data.example import BadExample, Span

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
FLOATS = st.floats(width=32, allow_nan=False)
VALUES = st.one_of(
    st.lists(st.binary(max_size=300), min_size=1, max_size=6),
    st.lists(INT64, min_size=1, max_size=6),
    st.lists(FLOATS, min_size=1, max_size=6),
)
FEATURES = st.dictionaries(st.text(max_size=20), VALUES, max_size=6)


def resolve(payload: bytes) -> dict[str, list]:
    """Parses a payload and replaces spans by their bytes."""
    return {
        name: [payload[slice(*value)] if isinstance(value, Span) else value for value in values]
        for name, values in example.parse(payload).items()
    }


@pytest.fixture(scope="module")
def protos():
    """The message classes of tensorflow-datasets, an implementation that shares nothing with ours."""
    from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

    return tf_example_pb2, tf_feature_pb2


def as_proto(features: dict[str, list], protos):
    tf_example, tf_feature = protos
    message = tf_example.Example()
    for name, values in features.items():
        feature = message.features.feature[name]
        match values[0]:
            case bytes():
                feature.bytes_list.CopyFrom(tf_feature.BytesList(value=values))
            case float():
                feature.float_list.CopyFrom(tf_feature.FloatList(value=values))
            case _:
                feature.int64_list.CopyFrom(tf_feature.Int64List(value=values))
    return message


@given(features=FEATURES)
def test_bytes_equal_protobuf(features, protos):
    assert example.encode(features) == as_proto(features, protos).SerializeToString(deterministic=True)


@given(features=FEATURES)
def test_reads_what_protobuf_wrote(features, protos):
    assert resolve(as_proto(features, protos).SerializeToString()) == features


def test_empty_list_is_an_empty_bytes_list(protos):
    message = protos[0].Example()
    message.features.feature["frames"].bytes_list.CopyFrom(protos[1].BytesList())
    assert example.encode({"frames": []}) == message.SerializeToString(deterministic=True)
    assert example.parse(example.encode({"frames": []})) == {"frames": []}


def test_large_strings_have_the_starts_that_lengths_imply():
    lengths = [0, 1, 127, 128, 129, 16383, 16384, 16385, 2097151, 2097152, 5]
    payload = example.encode({"before": [b"x" * 200], "frames": [bytes([7]) * n for n in lengths]})
    spans = example.parse(payload)["frames"]
    assert [stop - start for start, stop in spans] == lengths
    starts = np.array([start for start, _ in spans])
    np.testing.assert_array_equal(starts - starts[0], example.starts_in_list(np.array(lengths, np.uint32)))


def test_starts_of_no_strings():
    assert example.starts_in_list(np.zeros(0, np.uint32)).shape == (0,)


@given(data=st.binary(max_size=80))
def test_nonsense_is_refused_or_read_but_never_crashes(data: bytes):
    with suppress(BadExample):
        example.parse(data)


@given(features=FEATURES.filter(bool), cut=st.floats(0, 1, exclude_max=True))
def test_a_cut_payload_is_refused_or_shorter(features, cut: float):
    payload = example.encode(features)
    part = payload[: int(cut * len(payload))]
    with suppress(BadExample):
        assert resolve(part) != features
