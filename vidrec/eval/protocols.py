"""How each paper tests its networks, by name: which clips and crops of a video are seen, and how they are averaged.

Numbers are comparable with a paper's only if they are counted as the paper counts them.
"""

from typing import Any, NamedTuple

from vidrec.errors import UsageError, did_you_mean

PIXELS = 224  # side of the pictures that the papers' networks see
STRIDE = 32  # frames between those of a clip, of transformers on Kinetics


class Protocol(NamedTuple):
    """One way to test: which frames and which part of them are seen, how large, and how views are averaged.

    The number of frames of a clip, the size of pictures that `resize` is scaled to, and mean and std of pixels are the
    network's.

    Attributes:
      source: who tests like this, in a clause.
      frames: `data.sampling`: which frames make a clip.
      resize: `data.resize` for pictures of 224 pixels; a network for others sees frames as much smaller or larger.
      clips, crops, sampling, full_resolution, average: as in `config.eval`.
      whole: no crop: the network sees all that `resize` leaves.
    """

    source: str
    frames: str = "segment"
    resize: tuple[int, ...] = (256,)
    clips: int = 1
    crops: int = 1
    sampling: str = "test"
    full_resolution: bool = False
    average: str = "softmax"
    whole: bool = False

    def fields(self, image_size: int) -> dict[str, dict[str, Any]]:
        """Section and field -> value, for a network on pictures of `image_size` pixels."""
        names = ("clips", "crops", "sampling", "full_resolution", "average")
        resize = tuple(round(side * image_size / PIXELS) for side in self.resize)
        data = {"resize": resize, "sampling": self.frames, "short": "first"}  # as published for all on segments
        if self.frames == "strided":
            data["stride"] = STRIDE
        views = {name: getattr(self, name) for name in names} | {"image_size": resize if self.whole else ()}
        return {"data": data, "eval": views}


_TSM: dict[str, Any] = {"average": "logits"}  # TSM's code, and what is built on it
_LARGE: dict[str, Any] = {"crops": 3, "full_resolution": True}
_DENSE: dict[str, Any] = {"frames": "dense", "clips": 10}
_SOMETHING: dict[str, Any] = {**_TSM, "resize": (240, 320)}  # TCM-Net's frames, whatever their shape was
_TRANSFORMER: dict[str, Any] = {"resize": (224,), "crops": 3, "average": "logits"}
_EVEN: dict[str, Any] = {**_TRANSFORMER, "frames": "even"}
_STRIDED: dict[str, Any] = {**_TRANSFORMER, "frames": "strided"}
PROTOCOLS = {
    "stm30": Protocol("STM with Twins Training, accurate tests", clips=10, crops=3, sampling="random"),
    "stm_center": Protocol("STM with Twins Training, efficient tests (Table 4)"),
    "tcm_center": Protocol("TCM-Net on Something-Something", **_SOMETHING),
    "tcm_10x3": Protocol("TCM-Net on Something-Something", clips=10, sampling="random", **_SOMETHING, **_LARGE),
    "tcm_kinetics": Protocol("TCM-Net on Kinetics, 30 views (Table V)", **_DENSE, **_TSM, **_LARGE),
    "tcm_kinetics_10": Protocol("TCM-Net on Kinetics, 10 views", **_DENSE, **_TSM),
    "tcm_ucf": Protocol("TCM-Net on a split of UCF101 or HMDB51 (Table VI)", clips=2, sampling="twice", **_TSM),
    "tsm_center": Protocol("TSM, efficient tests", **_TSM),
    "tsm_something": Protocol("TSM on Something-Something", clips=2, sampling="twice", **_TSM, **_LARGE),
    "tsm_kinetics": Protocol("TSM on Kinetics, dense sampling (Table 1)", **_DENSE, **_TSM, **_LARGE),
    "tefe": Protocol("TEFE, whole frames from the segments' centres", resize=(224, 256), whole=True),
    "tefe_random": Protocol("TEFE, whole frames drawn at random", resize=(224, 256), whole=True, sampling="random"),
    "ttsn": Protocol("TTSN, centre crop"),
    "tdn30": Protocol("TDN on Kinetics, ten drawn clips", clips=10, sampling="random", **_LARGE),
    "timesformer": Protocol("TimeSformer on Something-Something, frames of the whole video", **_EVEN),
    "timesformer_kinetics": Protocol(f"TimeSformer on Kinetics, frames {STRIDE} apart", **_STRIDED),
    "direcformer": Protocol("DirecFormer on Jester and Something-Something, frames of the whole video", **_EVEN),
    "direcformer_kinetics": Protocol(f"DirecFormer on Kinetics, frames {STRIDE} apart", **_STRIDED),
}


def find_protocol(name: str, given: dict[str, Any]) -> Protocol:
    """The protocol of that name.

    Args:
      given: fields of the protocol that the user asked for besides, by name.

    Raises:
      UsageError: unknown name, or a given field has another value than the protocol's.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"there is no protocol {name!r}{did_you_mean(name, PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    for field, value in given.items():
        own = getattr(protocol, field)
        if value != own:
            raise UsageError(
                f"{field}={value} is not protocol {name} ({protocol.source}), whose {field} is {own}: leave one out"
            )
    return protocol
