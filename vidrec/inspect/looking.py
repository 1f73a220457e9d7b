"""Looks inside trained networks at a video: arrays and pictures in a folder, or one overlay."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vidrec import inspect
from vidrec.data.feed import normalize
from vidrec.data.video import write_mp4
from vidrec.errors import UsageError, did_you_mean
from vidrec.eval.order import chance, rules_for
from vidrec.eval.predict import Recognizer, load
from vidrec.files import atomic_write
from vidrec.inspect.drawing import enlarge
from vidrec.inspect.maps import Maps
from vidrec.inspect.panels import SIDE, Panel, film, panels, sheet
from vidrec.inspect.probe import has_stages
from vidrec.inspect.render import animation
from vidrec.inspect.results import names_of

Ending = Literal["gif", "webp", "png", "mp4"]
FPS = 4.0  # of the films: slow enough to look at
OPTIONS = {"--stage": "cam", "--class": "cam", "--head": "attention", "--patch": "attention"}  # and what each is about


class VideoMaps(NamedTuple):
    """What one network shows of a video.

    Attributes:
      name: of the network among those that are compared.
      workdir: of its run.
      recognizer: the network.
      frames: the clip it got, uint8 `[T, S, S, 3]`.
      maps: of that one clip.
      drawn: they as pictures.
    """

    name: str
    workdir: str
    recognizer: Recognizer
    frames: UInt8[np.ndarray, "t s s 3"]
    maps: Maps
    drawn: list[Panel]


def maps_of(recognizer: Recognizer, clips: UInt8[np.ndarray, "b t s s 3"], what: str, **options: Any) -> Maps:
    """The maps of clips as `recognizer.clip` gives them; `options` are those of the look, such as cam's stage."""
    data = recognizer.config.data
    normalised = normalize(jnp.asarray(clips), data.mean, data.std)
    return getattr(inspect, what)(recognizer.model, recognizer.variables, normalised, **options)


def default_look(model: Any) -> str | None:
    """The look that suits a network best: attention where it has that, TCM's motion, else cam.

    None of a network of another kind, whose stages are not known.
    """
    if not has_stages(model):
        return None
    if hasattr(model, "depth") or getattr(model, "ett", False):
        return "attention"
    return "motion" if getattr(model, "has_mtdm", False) else "cam"


def overlay_of(
    recognizer: Recognizer, video: str | Path | UInt8[np.ndarray, "n h w 3"]
) -> UInt8[np.ndarray, "t h w 3"]:
    """The clip that the network sees of a video, with the look that suits it best drawn over its frames.

    Small frames are enlarged.

    Raises:
      UsageError: there is no such look. VidrecError: the video cannot be read.
    """
    if default_look(recognizer.model) is None:
        raise UsageError(
            f"there is no look at a {type(recognizer.model).__name__}: it is neither ResNet nor transformer"
        )
    return drawn_over(recognizer, recognizer.clip(video))


def drawn_over(recognizer: Recognizer, clip: UInt8[np.ndarray, "t s s 3"]) -> UInt8[np.ndarray, "t h w 3"]:
    """The same of a clip as the network gets it; its plain frames where there is no such look."""
    look = default_look(recognizer.model)
    if look is None:
        return enlarge(clip, SIDE)
    return panels(maps_of(recognizer, clip[None], look), clip)[1].frames


def write_film(path: str | Path, frames: UInt8[np.ndarray, "t h w 3"]) -> None:
    """Writes frames as .gif, .webp, .png (animated) or .mp4, by rename; raises UsageError for another ending."""
    ending = film_ending(path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if ending == "mp4":
        height, width = frames.shape[1] % 2, frames.shape[2] % 2  # H.264 has even sides
        write_mp4(path, np.pad(frames, ((0, 0), (0, height), (0, width), (0, 0)), mode="edge"), FPS)
        return
    data = animation(frames, fps=FPS, scale=1, format=ending)
    with atomic_write(path) as file:
        file.write(data)


def film_ending(path: str | Path) -> Ending:
    """The kind of film that a file is by its name; raises UsageError where there is no such kind."""
    found = Path(path).suffix.removeprefix(".").lower()
    for ending in get_args(Ending):
        if ending == found:
            return ending
    raise UsageError(f"{path}: films are written as .gif, .webp, .png or .mp4")


def inspect_video(
    workdirs: Sequence[str | Path],
    video: str | Path,
    what: str,
    out: str | Path,
    *,
    stage: str | None = None,
    target: str | None = None,
    head: int | None = None,
    patch: tuple[int, int] | None = None,
) -> tuple[dict[str, Any], str]:
    """Looks at a video with one or more trained networks and writes what they show.

    `out` gets, for each network NAME, WHAT-NAME.npz with the arrays, and of all networks together WHAT.png (time to the
    right), WHAT.gif and WHAT.mp4 (side by side in time).

    Args:
      workdirs: folders of runs; a network is named as its folder (see `names_of`).
      what: attention, cam, motion, order or features.
      stage: of cam.
      target: of cam: name or number of the class that is asked about; None: each network's best.
      head, patch: of attention: draw those of one head, of one patch (row, column); None: of all.

    Returns:
      the result as JSON values, and as text.

    Raises:
      UsageError: a network has no such maps, stage, class, head or patch, or an option has no effect.
    """
    for (option, about), value in zip(OPTIONS.items(), (stage, target, head, patch), strict=True):
        if value is not None and what != about:
            raise UsageError(f"{option} is about {about} and has no effect on {what}")
    names = [name.replace("/", "-") for name in names_of(workdirs)]  # of files, too
    looks = []
    for name, workdir in zip(names, workdirs, strict=True):
        recognizer = load(workdir)
        frames = recognizer.clip(video)
        try:
            chosen = {} if target is None else {"target": class_index(target, recognizer.classes)}
            options = {"stage": stage, **chosen} if what == "cam" else {}
            maps = maps_of(recognizer, frames[None], what, **options)
            drawn = panels(maps, frames, title=name if len(workdirs) > 1 else "", head=head, patch=patch)
        except UsageError as error:  # of which of the networks?
            raise UsageError(f"{workdir}: {error}") from None
        looks.append(VideoMaps(name, str(workdir), recognizer, frames, maps, drawn))
    files = write(looks, what, Path(out))
    rows = [{**row_of(look), "arrays": files[look.name]} for look in looks]
    pictures = [files[kind] for kind in ("png", "gif", "mp4")]
    return {"video": str(video), "what": what, "networks": rows, "pictures": pictures}, text(rows, pictures)


def class_index(target: str, classes: Sequence[str]) -> int:
    """The index of a class given by its name or number; raises UsageError where there is none."""
    if target in classes:
        return list(classes).index(target)
    if target.isdecimal() and int(target) < len(classes):
        return int(target)
    raise UsageError(f"--class {target!r} is no class of this network{did_you_mean(target, classes)}")


def write(looks: Sequence[VideoMaps], what: str, out: Path) -> dict[str, str]:
    """Writes arrays and pictures, each by rename; returns network or ending -> path."""
    out.mkdir(parents=True, exist_ok=True)
    files = {look.name: str(out / f"{what}-{look.name}.npz") for look in looks}
    for look in looks:
        look.maps.save(files[look.name])
    shown = [panel for look in looks for panel in look.drawn]
    moving = film([panel for panel in shown if len(panel.frames) > 1] or shown)
    picture = io.BytesIO()
    Image.fromarray(sheet(shown)).save(picture, "PNG", optimize=True)
    files |= {kind: str(out / f"{what}.{kind}") for kind in ("png", "gif", "mp4")}
    with atomic_write(files["png"]) as file:
        file.write(picture.getvalue())
    for kind in ("gif", "mp4"):
        write_film(files[kind], moving)
    return files


def row_of(look: VideoMaps) -> dict[str, Any]:
    """What is told of one network."""
    recognizer, maps = look.recognizer, look.maps
    row: dict[str, Any] = {
        "name": look.name,
        "workdir": look.workdir,
        "network": recognizer.config.model.name,
        "best": list(recognizer.predict_clips(look.frames[None])[0].top(1)[0]),
        "maps": {name: {"axes": one.axes, "shape": one.values.shape} for name, one in maps.maps.items()},
    }
    if maps.what == "cam":
        row["class"] = recognizer.classes[int(maps["class"].values[0])]
    if maps.what == "order":
        frames = maps["shown"].values.shape[1]
        row["order_accuracy"] = {rule: float(maps[f"{rule}/accuracy"].values[0]) for rule in rules_for(frames)}
        row["chance"] = round(chance(frames), 1)
    return row


def text(rows: Sequence[dict[str, Any]], pictures: Sequence[str]) -> str:
    """The result for people."""
    lines = []
    for row in rows:
        name, score = row["best"]
        lines.append(f"{row['name']} ({row['network']}): {name}, {score:.1%}")
        if "class" in row:
            lines.append(f"  evidence for: {row['class']}")
        if "order_accuracy" in row:
            told = ", ".join(f"{rule} {value:.0f}" for rule, value in row["order_accuracy"].items())
            lines.append(f"  order recovered, OrderAcc: {told}; chance {row['chance']}")
        lines += [f"  {name}: {', '.join(one['axes'])} {list(one['shape'])}" for name, one in row["maps"].items()]
        lines.append(f"  arrays: {row['arrays']}")
    return "\n".join([*lines, f"pictures: {', '.join(pictures)}"])
