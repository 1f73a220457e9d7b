"""Open files: how many stay open, and the limits of the system."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidrec.data.openfiles import OpenFiles, Unreadable, reading

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 10 + b"end")
    return paths


def count() -> int:
    return len(os.listdir("/proc/self/fd"))


@needs_proc
def test_few_files_stay_open(files: list[Path]):
    before, opened = count(), OpenFiles(max_open=2)
    for number, path in [*enumerate(files)] * 2:
        assert opened.read(path, 8, 4) == bytes([number]) * 2 + b"en"
        assert count() <= before + 2
    del opened
    assert count() == before


def test_reading_past_the_end_gives_what_there_is(files: list[Path]):
    assert OpenFiles().read(files[0], 12, 100) == b"d"


def test_a_missing_file_is_an_os_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        OpenFiles().read(tmp_path / "gone", 0, 1)


def test_a_refusal_names_file_and_cause(tmp_path: Path):
    with pytest.raises(Unreadable, match=r"gone cannot be read \(No such file or directory\)"), reading(tmp_path):
        OpenFiles().read(tmp_path / "gone", 0, 1)
    with pytest.raises(Unreadable, match=r"a\.avi cannot be read \(Input/output"), reading(tmp_path / "a.avi"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(("hard", "outcome"), [(4096, "1000 2000"), (1000, "ulimit -n 1768")])
def test_the_limit_is_raised_where_the_system_allows(hard: int, outcome: str):
    code = (
        "import resource\n"
        "from vidrec.data.openfiles import allow_files\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))\n"
        "allow_files(10); first = resource.getrlimit(resource.RLIMIT_NOFILE)[0]\n"
        "allow_files(1000); second = resource.getrlimit(resource.RLIMIT_NOFILE)[0]\n"
        "print(first >= 10 and 1000, second >= 1000 and 2000)"
    )
    command, root = [sys.executable, "-c", code], Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert outcome in done.stdout + done.stderr
