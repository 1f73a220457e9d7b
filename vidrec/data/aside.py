"""set_aside.json: the videos of a record folder that cannot be read, so that training does without them knowingly.

`vidrec verify --repair` writes it. Where the index of a damaged shard is sound, everything keeps its number, and so the
data set its digest. Where both are damaged, the shard ends where the damage begins, and the data set is another one.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vidrec.data.manifest import Shard
from vidrec.data.remote import Place, Refused
from vidrec.errors import VidrecError
from vidrec.files import write_json

log = logging.getLogger(__name__)

FILE_NAME = "set_aside.json"


@dataclass(frozen=True)
class SetAside:
    """A record that cannot be read: its shard file, its number in it, its video, and why."""

    shard: str
    record: int
    video_id: str
    why: str

    def __str__(self) -> str:
        return f"record {self.record} of shard {self.shard} (video '{self.video_id}'): {self.why}"


@dataclass(frozen=True)
class CutShard:
    """A shard of which only the beginning can be read: that part, how many records are lost behind it, and why."""

    shard: Shard
    lost: int
    why: str

    def __str__(self) -> str:
        return f"all {self.lost} records of shard {self.shard.file} from number {self.shard.records} on: {self.why}"


@dataclass
class AsideList:
    """The content of set_aside.json."""

    records: list[SetAside] = field(default_factory=list)
    cut: list[CutShard] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of videos."""
        return len(self.records) + sum(cut.lost for cut in self.cut)

    def of(self, shard: str) -> frozenset[int]:
        """Numbers of the listed records of a shard."""
        return frozenset(one.record for one in self.records if one.shard == shard)

    def kept(self, shard: Shard) -> Shard:
        """What is left of a shard that the manifest names: all of it, or its beginning."""
        return next((cut.shard for cut in self.cut if cut.shard.file == shard.file), shard)

    def names(self, shard: str) -> bool:
        """Whether anything of a shard is listed."""
        return any(one.shard == shard for one in self.records) or any(one.shard.file == shard for one in self.cut)

    def save(self, directory: Path) -> None:
        """Writes set_aside.json into `directory`, by rename; removes it where nothing is set aside."""
        if self.count:
            write_json(directory / FILE_NAME, asdict(self))
        else:
            (directory / FILE_NAME).unlink(missing_ok=True)


def load(directory: Place) -> AsideList:
    """Reads the list of a record folder; it is empty where there is none.

    Raises:
      VidrecError: it is damaged.
    """
    try:
        content = json.loads((directory / FILE_NAME).read_bytes())
        records = [SetAside(**one) for one in content["records"]]
        cut = [CutShard(Shard(**one["shard"]), one["lost"], one["why"]) for one in content["cut"]]
    except FileNotFoundError:
        return AsideList()
    except Refused as error:
        log.warning("%s; taken for absent, as some servers refuse what is not there", error)
        return AsideList()
    except (ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise VidrecError(
            f"{directory / FILE_NAME} is damaged ({why}); delete it, 'vidrec verify --repair' writes it again"
        ) from None
    return AsideList(records, cut)


def clear(directory: Path, shards: Iterable[str]) -> None:
    """Takes shards that are about to be made again off the list of a record folder."""
    listed, again = load(directory), set(shards)
    records = [one for one in listed.records if one.shard not in again]
    cut = [one for one in listed.cut if one.shard.file not in again]
    if (records, cut) != (listed.records, listed.cut):
        AsideList(records, cut).save(directory)
