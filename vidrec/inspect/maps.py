"""What a look inside a network gives: arrays whose axes have names."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped, UInt8

from vidrec.errors import UsageError, did_you_mean
from vidrec.files import atomic_write

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, eq=False)
class Map:
    """An array and the names of its axes.

    Names mean the same in every map: clip; frame, row, column (a cell of the network's maps: rows go down); head;
    query and key (frames, or tokens of one frame: the query attends to the key); channel, class, tap; xy (x to the
    right, then y downwards); position (place in time).

    Attributes:
      values: the array.
      axes: a name for each of its axes.
      about: what it is and in which unit, in a few words.
    """

    values: Shaped[np.ndarray, "..."]
    axes: tuple[str, ...]
    about: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != len(self.axes):
            raise UsageError(f"axes {self.axes} do not name the axes of an array {list(self.values.shape)}")

    def axis(self, name: str) -> int:
        """The place of a named axis; raises UsageError where there is none."""
        if name not in self.axes:
            raise UsageError(f"a map with axes {', '.join(self.axes)} has no {name!r}{did_you_mean(name, self.axes)}")
        return self.axes.index(name)

    def take(self, **places: int) -> "Map":
        """The part at given places of named axes, which it then lacks: `take(clip=0, head=1)`.

        Raises:
          UsageError: there is no such axis or place.
        """
        for name, place in places.items():
            if not 0 <= place < (count := self.values.shape[self.axis(name)]):
                raise UsageError(f"there is no {name} {place}: there are {count}, from 0")
        kept = tuple(axis for axis in self.axes if axis not in places)
        return Map(self.values[tuple(places.get(axis, slice(None)) for axis in self.axes)], kept, self.about)

    def mean(self, *names: str) -> "Map":
        """The mean over named axes."""
        gone = tuple(map(self.axis, names))
        kept = tuple(axis for axis in self.axes if axis not in names)
        return Map(self.values.mean(gone), kept, self.about)


@dataclass(frozen=True, eq=False)
class Maps:
    """All maps of one kind that a network gives for some clips.

    Attributes:
      what: attention, cam, motion, order or features.
      maps: name -> map; `maps[name]` of the whole gives one, too.
      drawn: names of those that a picture shows; the first one that lies on the frames is the overlay.
    """

    what: str
    maps: dict[str, Map]
    drawn: tuple[str, ...]

    def __getitem__(self, name: str) -> Map:
        if name not in self.maps:
            raise UsageError(f"there is no map {name!r}{did_you_mean(name, self.maps)}")
        return self.maps[name]

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """Name -> names of the axes."""
        return {name: one.axes for name, one in self.maps.items()}

    def draw(
        self,
        frames: UInt8[np.ndarray, "t h w 3"],
        *,
        clip: int = 0,
        head: int | None = None,
        patch: tuple[int, int] | None = None,
    ) -> "Image.Image":
        """One picture of everything in `drawn` for a clip: time runs to the right, maps stand below each other.

        Args:
          frames: the clip's frames as the network got them, before they were normalised.
          clip: which of the clips that were looked at it is.
          head, patch: of attention: of one head alone, and of one patch (row, column); None: of all.

        Raises:
          UsageError: there is no such head or patch.
        """
        from PIL import Image

        from vidrec.inspect.panels import panels, sheet

        return Image.fromarray(sheet(panels(self, frames, clip=clip, head=head, patch=patch)))

    def save(self, path: str | Path) -> None:
        """Writes all arrays to an .npz file, by rename; its entry "axes" is the JSON of name -> names of the axes."""
        arrays: dict[str, Any] = {name: one.values for name, one in self.maps.items()}
        with atomic_write(path) as file:
            np.savez(file, **arrays, axes=np.array(json.dumps(self.axes)))
