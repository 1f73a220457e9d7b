"""Class lists, whose order is part of a data set, and which classes a mirrored picture turns into."""

import hashlib
import re
from collections.abc import Iterable, Sequence

from vidrec.errors import VidrecError, did_you_mean


class ClassList(tuple[str, ...]):
    """The class names of a data set in label order: `classes[label]` is a name, `classes.label(name)` its label.

    Raises:
      VidrecError: no name at all, an empty name, or the same name twice.
    """

    __slots__ = ()

    def __new__(cls, names: Iterable[str]) -> "ClassList":
        self = super().__new__(cls, names)
        if not self:
            raise VidrecError("the class list is empty; name at least one class in the annotations")
        seen: set[str] = set()
        for label, name in enumerate(self):
            if not name.strip():
                raise VidrecError(f"class {label} has an empty name; give it one in the annotations")
            if name in seen:
                raise VidrecError(f"class {name!r} is listed twice; every class name must be unique")
            seen.add(name)
        return self

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with any name or with the order."""
        return hashlib.sha256("\0".join(self).encode()).hexdigest()[:16]

    def label(self, name: str) -> int:
        """Returns the label of class `name`; for an unknown one a `VidrecError` suggests the nearest."""
        try:
            return self.index(name)
        except ValueError:
            raise VidrecError(f"unknown class {name!r}{did_you_mean(name, self)}") from None


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_OPPOSITE = {
    "left": "right",
    "leftward": "rightward",
    "leftwards": "rightwards",
    "leftmost": "rightmost",
    "clockwise": "counterclockwise",
}
_OPPOSITE |= {b: a for a, b in _OPPOSITE.items()}


def _words(name: str) -> tuple[str, ...]:
    """Lower-case words of a name written `two words`, `two_words` or `TwoWords`; one spelling of anti-clockwise."""
    words: list[str] = []
    for word in (w.lower() for w in _WORD.findall(name)):
        if word == "clockwise" and words and words[-1] in ("counter", "anti"):
            words[-1] = "counterclockwise"
        else:
            words.append("counterclockwise" if word == "anticlockwise" else word)
    return tuple(words)


def mirror_pairs(classes: Sequence[str]) -> dict[int, int]:
    """Finds the classes that a left-right flip of the picture turns into each other, from their names alone.

    A class pairs with the one whose name says the opposite side in every place ("from left to right" with
    "from right to left", "Clockwise" with "Counterclockwise"); both must exist.

    Returns:
      `{label: label of the flipped clip}`, in both directions; classes that keep their label are not in it.
    """
    by_words = {_words(name): label for label, name in enumerate(classes)}
    pairs: dict[int, int] = {}
    for words, label in by_words.items():
        partner = by_words.get(tuple(_OPPOSITE.get(word, word) for word in words), label)
        if partner != label:
            pairs[label] = partner
    return pairs


def one_sided(classes: Sequence[str]) -> list[int]:
    """Returns the labels whose names speak of a side but whose opposite class does not exist: never flip those."""
    pairs = mirror_pairs(classes)
    sided = (label for label, name in enumerate(classes) if not _OPPOSITE.keys().isdisjoint(_words(name)))
    return [label for label in sided if label not in pairs]
