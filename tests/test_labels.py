"""Class lists and the pairs of classes that a mirror exchanges."""

import pickle

import pytest

from vidrec.errors import VidrecError
from vidrec.labels import ClassList, mirror_pairs, one_sided

SOMETHING = [
    "Holding something",
    "Pulling something from left to right",
    "Pulling something from right to left",
    "Pushing something from left to right",
    "Pushing something from right to left",
    "Turning the camera left while filming something",
    "Turning the camera right while filming something",
    "Turning the camera upwards while filming something",
    "Taking one of many similar things on the table",
    "Showing that something is left behind",
]
JESTER = [
    "Swiping Left",
    "Swiping Right",
    "Swiping Up",
    "Sliding Two Fingers Left",
    "Sliding Two Fingers Right",
    "Turning Hand Clockwise",
    "Turning Hand Counterclockwise",
    "Rolling Hand Forward",
]


def test_pairs_of_something_something():
    assert mirror_pairs(SOMETHING) == {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5}


def test_pairs_of_jester():
    assert mirror_pairs(JESTER) == {0: 1, 1: 0, 3: 4, 4: 3, 5: 6, 6: 5}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("move_left", "move_right"),
        ("TurnLeft", "TurnRight"),
        ("spin counter-clockwise", "spin clockwise"),
        ("spin anti clockwise", "spin clockwise"),
        ("SpinAntiClockwise", "spin clockwise"),
        ("leftwards swipe", "rightwards swipe"),
        ("from left to the right", "from right to the left"),
    ],
)
def test_spellings(one: str, other: str):
    assert mirror_pairs([one, "stay", other]) == {0: 2, 2: 0}


def test_both_classes_must_exist():
    names = ["swipe left", "leftover food", "brightness", "turn right"]
    assert mirror_pairs(names) == {}
    assert one_sided(names) == [0, 3]


def test_words_are_whole():
    assert mirror_pairs(["leftover", "rightover"]) == {}


def test_digest_changes_with_names_and_order():
    digests = {ClassList(names).digest for names in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", "c"])}
    assert len(digests) == 4
    assert ClassList(["a", "b"]).digest == ClassList(("a", "b")).digest


def test_class_list_is_a_tuple_that_knows_labels():
    classes = ClassList(["walk", "run"])
    assert classes == ("walk", "run")
    assert classes.label("run") == 1
    assert pickle.loads(pickle.dumps(classes)).digest == classes.digest
    with pytest.raises(VidrecError, match=r"unknown class 'wakl' \(did you mean 'walk'\?\)"):
        classes.label("wakl")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [([], "class list is empty"), (["a", " "], "class 1 has an empty name"), (["a", "b", "a"], "'a' is listed twice")],
)
def test_wrong_class_lists(names: list[str], sentence: str):
    with pytest.raises(VidrecError, match=sentence):
        ClassList(names)
