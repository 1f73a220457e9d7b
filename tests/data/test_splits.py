"""Split expressions."""

import pytest

from vidrec.data.splits import parse_split
from vidrec.errors import UsageError

SIZES = {"train": 57, "validation": 10, "my-test": 3}


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("train", [("train", 0, 57)]),
        ("train[:90%]", [("train", 0, 51)]),
        ("train[90%:]", [("train", 51, 57)]),
        ("train[5:10]", [("train", 5, 10)]),
        ("train[-7:]", [("train", 50, 57)]),
        ("train[:-7]", [("train", 0, 50)]),
        ("train[-10%:]", [("train", 51, 57)]),
        ("train[10:5]", [("train", 10, 10)]),
        ("train[:1000]", [("train", 0, 57)]),
        ("train[:]", [("train", 0, 57)]),
        ("validation + my-test[1:]", [("validation", 0, 10), ("my-test", 1, 3)]),
    ],
)
def test_expressions(expression: str, parts: list):
    assert parse_split(expression, SIZES) == parts


@pytest.mark.parametrize("percent", range(0, 101, 7))
def test_two_parts_are_the_whole(percent: int):
    ((_, _, end),) = parse_split(f"train[:{percent}%]", SIZES)
    ((_, start, _),) = parse_split(f"train[{percent}%:]", SIZES)
    assert start == end


def test_unknown_splits_name_the_known_ones():
    with pytest.raises(UsageError, match=r"no split 'valid'; .* has my-test, train, validation.*'validation'"):
        parse_split("valid", SIZES)


@pytest.mark.parametrize("expression", ["", "train[", "train[a:b]", "train[1:2:3]", "train+", "[1:2]"])
def test_what_is_no_expression_is_refused(expression: str):
    with pytest.raises(UsageError, match="is not a split"):
        parse_split(expression, SIZES)
