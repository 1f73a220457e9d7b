"""Record folders at remote addresses (`gs://`, `https://`, `memory://`, ...), read through fsspec by byte ranges.

A failure that may pass (a lost connection, a server that is busy or restarting) is tried again, with growing pauses;
anything else, and what has not passed by then, is an `Unreadable` that names the address.
"""

import logging
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidrec.data.openfiles import Unreadable
from vidrec.errors import VidrecError

log = logging.getLogger(__name__)

Address = str | os.PathLike[str]
Answer = bytes | Exception

PAUSES: tuple[float, ...] = (0.5, 1, 2, 4, 8)
"""Seconds, on average, before a request is made for the second time, the third, ..."""

STALLED = 60.0
"""Seconds without a byte after which a web server counts as one that does not answer."""

_REMOTE = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}", re.IGNORECASE)  # at least two letters: C:/ is a drive
_PASSING = (408, 425, 429)  # HTTP: timeout, too early, too many requests; and all from 500 on
_PAST_THE_END = 416
_NO_RIGHTS = (401, 403)
_EXTRAS = {"gs": "gcs", "gcs": "gcs", "http": "remote", "https": "remote", "memory": "remote"}


class Refused(Unreadable):
    """A server does not give a file; some say so, too, of files that are not there."""


@dataclass(frozen=True)
class RemotePath:
    """A file or folder at a remote address; pickled as the address, each process connects for itself."""

    address: str

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.address.rsplit("/", 1)[1]

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.address}/{name}")

    def with_name(self, name: str) -> "RemotePath":
        """Returns the address of a neighbour."""
        return RemotePath(f"{self.address.rsplit('/', 1)[0]}/{name}")

    def __str__(self) -> str:
        return self.address

    def read_bytes(self) -> bytes:
        """Reads all of the file.

        Raises:
          FileNotFoundError: there is none. Refused: the server says no. Unreadable: it cannot be read for another
            reason. VidrecError: a package is missing.
        """
        system, path = self._connect()
        (data,) = self._persist(lambda _: [system.cat_file(path)], 1)
        return data

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Reads parts of the file, `(offset, length)` each, in one call; a part is shorter where the file ends.

        Raises:
          FileNotFoundError: there is no such file. Unreadable: it cannot be read. VidrecError: a package is missing.
        """
        system, path = self._connect()
        starts, ends = [offset for offset, _ in ranges], [offset + length for offset, length in ranges]

        def ask(which: list[int]) -> list[Answer]:
            """Asks once for some of the parts, by their numbers."""
            paths = [path] * len(which)
            return system.cat_ranges(paths, [starts[i] for i in which], [ends[i] for i in which], on_error="return")

        parts = self._persist(ask, len(ranges))
        if any(len(data) > length for data, (_, length) in zip(parts, ranges, strict=True)):
            raise Unreadable(
                f"{self.address} cannot be read in parts (the server ignores byte ranges); put the records on one that "
                "does not, or copy them here"
            )
        return parts

    def _connect(self) -> tuple[Any, str]:
        protocol = self.address.split(":", 1)[0].lower()
        try:
            import fsspec

            return fsspec.core.url_to_fs(self.address, **_options(protocol))
        except ImportError as error:
            extra = _EXTRAS.get(protocol)
            way_out = f", pip install 'vidrec[{extra}]'" if extra else ""
            raise VidrecError(
                f"{self.address} cannot be read: {protocol}:// needs another package{way_out} ({error})"
            ) from None
        except ValueError as error:
            raise VidrecError(f"{self.address} cannot be read: {error}") from None

    def _persist(self, ask: Callable[[list[int]], list[Answer]], count: int) -> list[bytes]:
        """Asks for `count` parts, and again for those that failed for a reason that may pass."""
        answers: list[Answer] = [b""] * count
        missing = list(range(count))
        for attempt, pause in enumerate((0, *PAUSES)):
            if attempt:
                log.warning("%s: %s; trying again", self.address, _why(answers[missing[0]]))
                time.sleep(pause * random.uniform(0.5, 1.5))  # many workers must not come back at the same moment
            for number, answer in zip(missing, _answers(ask, missing), strict=True):
                answers[number] = answer
            missing = [number for number in missing if _may_pass(answers[number])]
            if not missing:
                break
        return [self._data(answer) for answer in answers]

    def _data(self, answer: Answer) -> bytes:
        if isinstance(answer, bytes):
            return answer
        if _status(answer) == _PAST_THE_END:
            return b""
        if isinstance(answer, FileNotFoundError):
            raise FileNotFoundError(2, "No such file", self.address)
        tries = f"asked {len(PAUSES) + 1} times; " if _may_pass(answer) else ""
        kind = Refused if _status(answer) in _NO_RIGHTS or isinstance(answer, PermissionError) else Unreadable
        raise kind(
            f"{self.address} cannot be read ({_why(answer)}); {tries}check the address, your rights and the "
            "connection, then run the same command again"
        )


Place = Path | RemotePath


def place(address: Address) -> Place:
    """Returns the file or folder at a local path (which may be written `file:///...`) or a remote address."""
    text = os.fspath(address)
    found = _REMOTE.match(text)
    if found and found[1].lower() == "file":
        return Path("/" + text[found.end() :].lstrip("/"))
    if found:
        return RemotePath(f"{found[1]}://{text[found.end() :].rstrip('/')}")
    return Path(text)


def read_ranges(file: Place, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Reads parts of a file, `(offset, length)` each, once; `openfiles.OpenFiles` is for files that are read often.

    Raises:
      OSError: it cannot be read. Unreadable, VidrecError: as of `RemotePath.read_ranges`.
    """
    if isinstance(file, RemotePath):
        return file.read_ranges(ranges)
    with open(file, "rb") as opened:
        return [os.pread(opened.fileno(), length, offset) for offset, length in ranges]


def _options(protocol: str) -> dict[str, Any]:
    """Options of the file system; for web servers a limit on silence in place of aiohttp's on the whole answer."""
    if protocol not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout

    return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=STALLED, sock_read=STALLED)}}


def _answers(ask: Callable[[list[int]], list[Answer]], which: list[int]) -> list[Answer]:
    try:
        return ask(which)
    except Exception as error:  # each fsspec backend has its own
        return [error] * len(which)


def _status(error: Exception) -> int:
    """The HTTP status in an error of aiohttp or gcsfs, 0 where there is none."""
    status = str(getattr(error, "status", "") or getattr(error, "code", ""))
    return int(status) if status.isdigit() else 0


def _may_pass(answer: Answer) -> bool:
    if isinstance(answer, bytes):
        return False
    if status := _status(answer):
        return status in _PASSING or status >= 500
    if isinstance(answer, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    return isinstance(answer, OSError | EOFError) or type(answer).__module__.startswith("aiohttp")


def _why(answer: Answer) -> str:
    said = " ".join(str(answer).split()) or "no reason given"
    return f"{type(answer).__name__}: {said}" if not _status(answer) else f"status {_status(answer)}"  # pyright: ignore
