"""Reading parts of many files, of which only some are kept open; what the system refuses to read is told apart."""

import contextlib
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from vidrec.errors import VidrecError

MAX_OPEN = 512
_SPARE = 256


class Unreadable(VidrecError):
    """The system does not let a file be read; that says nothing about its content, so no policy for damage applies."""


@contextlib.contextmanager
def reading(path: object) -> Iterator[None]:
    """Turns any OSError into an `Unreadable` that names the file, `path` where the error names none, and the cause."""
    try:
        yield
    except OSError as error:
        raise Unreadable(
            f"{error.filename or path} cannot be read ({error.strerror or error}); check its rights, its disk or mount "
            "and the limit of open files, then run the same command again"
        ) from None


class OpenFiles:
    """The most recently used open files. Threads may share it; in another process it starts empty."""

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self._max_open = max_open
        self._lock = threading.Lock()
        self._open: OrderedDict[Path, _File] = OrderedDict()

    def __reduce__(self):
        return OpenFiles, (self._max_open,)

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Returns `length` bytes of a file from `offset` on, fewer where the file ends; raises OSError."""
        file = self._get(path)  # held until the bytes are read, so that no other thread closes it
        return os.pread(file.descriptor, length, offset)

    def _get(self, path: Path) -> "_File":
        with self._lock:
            file = self._open.get(path) or _File(path)
            self._open[path] = file
            self._open.move_to_end(path)
            if len(self._open) > self._max_open:
                self._open.popitem(last=False)
            return file


class _File:
    """An open file that closes when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        self._close = os.close  # at the interpreter's end `os` is gone before this file

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            self._close(self.descriptor)


def allow_files(count: int) -> None:
    """Makes sure that this process and those it starts may have `count` files open beside the usual ones.

    Raises:
      VidrecError: the system does not allow so many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + MAX_OPEN + _SPARE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise VidrecError(
            f"{count} shards need {wanted} open files, but the system allows {hard}; "
            f"allow more ('ulimit -n {wanted}') or convert again with more videos per shard"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
