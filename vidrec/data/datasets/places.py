"""Where listed videos lie: names that differ in case, other spellings of class folders, folders within folders."""

import functools
import os
import re
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vidrec.data.datasets.entries import VIDEO_SUFFIXES, Entry
from vidrec.data.datasets.kinetics import clip_names
from vidrec.data.openfiles import reading

# A folder that was changed so lately may change again without its time of change showing it.
_SETTLED_NS = 3_000_000_000


def locate(root: Path, path: str) -> Path:
    """Finds a listed file below `root`; names may differ from the list in case, as some of UCF101's do.

    They may also differ in how accents are coded, as they do once a file has been on a Mac.

    Returns:
      Its path, which need not exist when nothing like it does.

    Raises:
      Unreadable: the system does not let a folder on the way be read.
    """
    found = root
    with reading(root / path):
        for part in Path(path).parts:
            if not (found / part).exists() and found.is_dir():
                part = _names(found).get(_folded(part), part)
            found = found / part
    return found


def _names(folder: Path) -> dict[str, str]:
    """Folded name -> the name in a folder, the first of several."""
    changed = folder.stat().st_mtime_ns
    if time.time_ns() - changed < _SETTLED_NS:
        return _list_names(folder)
    return _cached_names(folder, changed)


def _list_names(folder: Path) -> dict[str, str]:
    return {_folded(name): name for name in sorted(os.listdir(folder), reverse=True)}


@functools.lru_cache(maxsize=128)
def _cached_names(folder: Path, changed: int) -> dict[str, str]:
    """As long as its time of change stays the same, so does a folder; else each missing video would list it again."""
    return _list_names(folder)


def find_kinetics(entries: Sequence[Entry], roots: Iterable[Path]) -> dict[str, str]:
    """Finds clips by their names, which are unique, whatever their folders are called.

    Args:
      entries: the listed videos.
      roots: folders to look in, to any depth.

    Returns:
      Listed path -> the file; of several, one in a folder of its class, else the likeliest name, else the first by
      path. Videos that are not found are not in it.

    Raises:
      Unreadable: the system does not let a folder be read.
    """
    files, found = _by_name(roots), {}
    for entry in entries:
        candidates = [path for name in clip_names(entry.video_id) for path in files.get(name, ())]
        if len(candidates) > 1:
            candidates.sort(key=lambda path: not _is_in_class(path, entry))
        if candidates:
            found[entry.path] = candidates[0]
    return found


def find_hmdb51(entries: Sequence[Entry], roots: Iterable[Path]) -> dict[str, str]:
    """Finds videos in a folder of their class, at any depth; else as `find_kinetics`."""
    files, found = _by_name(roots), {}
    for entry in entries:
        candidates = (path for path in files.get(_stem(entry.path), ()) if _is_in_class(path, entry))
        if path := next(candidates, None):
            found[entry.path] = path
    return found


def _by_name(roots: Iterable[Path]) -> dict[str, list[str]]:
    """Name without suffix -> the videos of that name, sorted."""
    files: dict[str, list[str]] = {}
    for path in sorted(path for root in roots for path in _videos(root)):
        files.setdefault(_stem(path), []).append(path)
    return files


def _is_in_class(path: str, entry: Entry) -> bool:
    return _plain(entry.path.split("/")[0]) in map(_plain, path.split(os.sep)[:-1])


def _videos(root: Path) -> Iterator[str]:
    """Yields the path of every video below a folder."""

    def stop(error: OSError) -> None:
        """Fails at a folder that cannot be read; os.walk by itself leaves it out."""
        raise error

    with reading(root):
        for folder, _, files in os.walk(root, onerror=stop, followlinks=True):
            yield from (os.path.join(folder, file) for file in files if file.lower().endswith(VIDEO_SUFFIXES))


def _stem(path: str) -> str:
    """File name without the suffixes of videos, of which downloaders leave two at times (`.mp4.webm`)."""
    stem, suffix = os.path.splitext(os.path.basename(path))
    return _stem(stem) if suffix.lower() in VIDEO_SUFFIXES else stem + suffix


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


@functools.lru_cache(maxsize=4096)
def _plain(name: str) -> str:
    """A class or folder name without what spellings of it differ in: case, blanks, underscores, quotes."""
    return re.sub(r"[\W_]+", "", name.casefold())
