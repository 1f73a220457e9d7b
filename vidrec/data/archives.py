"""Archives of videos, and archives within them: ZIP and TAR by Python, RAR by a program that is on PATH."""

import logging
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from vidrec.errors import VidrecError

log = logging.getLogger(__name__)

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_SUFFIXES = (".zip", ".rar", *_TAR)

RAR_TOOLS = {
    "bsdtar": ("-x", "-f", "{archive}", "-C", "{folder}"),
    "unrar": ("x", "-y", "-idq", "{archive}", "{folder}/"),
    "7z": ("x", "-y", "-o{folder}", "{archive}"),
    "unar": ("-quiet", "-force-overwrite", "-no-directory", "-output-directory", "{folder}", "{archive}"),
}
"""Programs that unpack RAR, in the order they are tried -> their arguments."""


def archive_name(path: Path) -> str | None:
    """Returns an archive's file name without its suffix, None for another file."""
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return None


def find_archives(root: Path, names: Iterable[str]) -> list[Path]:
    """Finds the archives that have yet to be unpacked.

    Args:
      root: a folder, or itself an archive.
      names: without suffix, of the archives that may lie in the folder.

    Returns:
      The archives, without those beside which a folder of their name has something in it.
    """
    if not root.is_dir():
        return [root]
    wanted, found = set(names), []
    for path in sorted(root.iterdir()):
        name = archive_name(path)
        if name in wanted and path.is_file():
            beside = root / name
            if not (beside.is_dir() and any(beside.iterdir())):
                found.append(path)
    return found


def unpack(archives: Iterable[Path], into: Path) -> None:
    """Unpacks archives, and those in them, each below a folder of its name; what is there already stays.

    Args:
      archives: the files.
      into: a folder; made where it is missing.

    Raises:
      VidrecError: an archive is damaged or holds paths outside its folder, or there is no program for RAR.
      OSError: no room.
    """
    into.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        done = into / str(archive_name(archive))
        if done.is_dir():
            continue
        log.info("unpacking %s", archive)
        partial = into / f".{done.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        _unpack_nested(archive, partial)
        partial.rename(done)


def _unpack_nested(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _unpack_one(archive, folder)
    for inner in sorted(path for path in folder.rglob("*") if path.is_file() and archive_name(path)):
        _unpack_nested(inner, inner.with_name(str(archive_name(inner))))
        inner.unlink()


def _unpack_one(archive: Path, folder: Path) -> None:
    name = archive.name.lower()
    try:
        if name.endswith(".zip"):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(folder)
        elif name.endswith(_TAR):
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
        else:
            _unpack_rar(archive, folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError, NotImplementedError) as error:
        raise VidrecError(f"cannot unpack {archive}: {error}; download it again or unpack it yourself") from None


def _unpack_rar(archive: Path, folder: Path) -> None:
    """Tries one program after the other: none of them knows all versions of RAR."""
    tools = [tool for tool in RAR_TOOLS if shutil.which(tool)]
    if not tools:
        raise VidrecError(
            f"{archive} is a RAR archive and none of {', '.join(RAR_TOOLS)} is on PATH; install one ('apt-get install "
            f"libarchive-tools' has bsdtar), or unpack it elsewhere by 'bsdtar -x -f {archive.name} -C FOLDER'"
        )
    said = []
    for tool in tools:
        command = [tool, *(part.format(archive=archive, folder=folder) for part in RAR_TOOLS[tool])]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, errors="replace"
        )
        if done.returncode == 0 and any(folder.iterdir()):
            return
        said.append(f"{tool} says {((done.stderr or done.stdout).strip().splitlines() or ['nothing'])[0]!r}")
    raise VidrecError(f"cannot unpack {archive}: {', '.join(said)}; download it again, or install another of its tools")
