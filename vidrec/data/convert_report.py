"""What a conversion did: how much of what was listed is in the records, and how the classes are covered."""

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidrec.data import manifest
from vidrec.data.manifest import Manifest, Split
from vidrec.data.workfolder import Skipped
from vidrec.labels import mirror_pairs, one_sided

_SHOWN = 10


@dataclass
class ConvertReport:
    """What `convert` did.

    Attributes:
      out: the record folder.
      name: of the data set.
      digest: of its content.
      listed: number of videos in the annotations, by split.
      official: number of videos that the data set's authors published, by split; empty where there is no such number.
      videos: number of videos in the records, by split.
      frames: number of frames in the records.
      skipped: of each listed video that is not in the records its `path`, `why`, `kind` ("missing" or "damaged") and
        `shard`.
      classes: `number`, `order` ("sorted", "file", a file of names, or "official") and `digest` of the class list.
      labels: by split the `min`, `median` and `max` number of videos of a class, names of the `empty` classes, and the
        number of `unlabelled` videos.
      mirror_pairs: names of the classes that a left-right flip turns into each other.
      one_sided: names of the classes that speak of a side but whose opposite does not exist: never flip those.
      made: number of shards written by this call; 0 where everything was there.
    """

    out: str
    name: str
    digest: str
    listed: dict[str, int]
    official: dict[str, int]
    videos: dict[str, int]
    frames: int
    skipped: Skipped
    classes: dict[str, Any]
    labels: dict[str, dict[str, Any]]
    mirror_pairs: list[tuple[str, str]]
    one_sided: list[str]
    made: int

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def text(self) -> str:
        """The report for people, with the first skipped videos."""
        splits = ", ".join(f"{split} {videos}" for split, videos in self.videos.items())
        content = f"{sum(self.videos.values())} videos ({splits}), {self.frames} frames, {self._skipped_text()}"
        if not self.made:
            return "\n".join([f"{self.out} is done already, nothing to do: {content}", *self._way_out()])
        lines = [
            f"{self.out}: {content}",
            *(f"skipped {skip['path']}: {skip['why']}" for skip in self.skipped[:_SHOWN]),
        ]
        if len(self.skipped) > _SHOWN:
            lines.append(f"... and {len(self.skipped) - _SHOWN} more, listed in {manifest.FILE_NAME}")
        lines += self._way_out()
        lines += [self._split_text(split) for split in self.videos]
        lines.append(
            f"classes: {self.classes['number']}, label order {self.classes['order']}, digest {self.classes['digest']}"
        )
        lines += [f"mirror pair: {one} <-> {other}" for one, other in self.mirror_pairs]
        lines += [f"one-sided, never flip: {name}" for name in self.one_sided]
        return "\n".join(lines)

    def _way_out(self) -> list[str]:
        way_out = "when skipped videos have been put right, run again with --retry-skipped: it makes their shards again"
        return [way_out] if self.skipped else []

    def _skipped_text(self) -> str:
        kinds = [skip["kind"] for skip in self.skipped]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
        return f"{len(kinds)} skipped ({counts})" if kinds else "0 skipped"

    def _split_text(self, split: str) -> str:
        labels = self.labels[split]
        official = f", official {self.official[split]}" if split in self.official else ""
        text = f"{split}: {self.videos[split]} of {self.listed.get(split, 0)} listed{official}"
        if labels["unlabelled"]:
            text += f"; {labels['unlabelled']} without a label, for prediction only"
        if labels["max"]:
            text += f"; videos per class {labels['min']} to {labels['max']}, median {labels['median']:g}"
            if empty := labels["empty"]:
                more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
                are = "class is" if len(empty) == 1 else "classes are"
                text += f"; {len(empty)} {are} empty: {', '.join(empty[:_SHOWN])}{more}"
        return text


def make_report(
    out: Path, result: Manifest, listed: dict[str, int], official: dict[str, int], made: int
) -> ConvertReport:
    """Makes the report of a finished record folder.

    Args:
      out: the folder.
      result: its manifest.
      listed: number of videos in the annotations, by split.
      official: as in `ConvertReport`.
      made: number of shards written by this call.
    """
    pairs = mirror_pairs(result.classes)
    order = result.settings.get("classes") or result.settings.get("label_order", "official")
    return ConvertReport(
        out=str(out),
        name=result.name,
        digest=result.digest,
        listed=listed,
        official=official,
        videos={name: split.videos for name, split in result.splits.items()},
        frames=sum(split.frames for split in result.splits.values()),
        skipped=result.skipped,
        classes={"number": len(result.classes), "order": order, "digest": result.classes.digest},
        labels={name: _histogram(split) for name, split in result.splits.items()},
        mirror_pairs=[(result.classes[a], result.classes[b]) for a, b in sorted(pairs.items()) if a < b],
        one_sided=[result.classes[label] for label in one_sided(result.classes)],
        made=made,
    )


def _histogram(split: Split) -> dict[str, Any]:
    counts = list(split.labels.values())
    return {
        "min": min(counts),
        "median": statistics.median(counts),
        "max": max(counts),
        "empty": [name for name, count in split.labels.items() if not count],
        "unlabelled": split.videos - sum(counts),
    }
