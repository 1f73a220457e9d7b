"""The commands a person and CI start with: what `make` and `.ci/run` do where something is missing or fails."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("awk", "bash", "cat", "cp", "dirname", "echo", "env", "grep", "make", "mkdir", "mv", "rm", "sh", "touch")


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A folder with blanks in its name that holds what `make` reads, and a PATH of bare tools: no Python, no uv."""
    folder = tmp_path / "a fresh clone"
    (folder / "bin").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    for tool in TOOLS:
        (folder / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command there with nothing of this machine's environment but the bare tools."""
    environment = {"PATH": str(folder / "bin"), "HOME": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def script(path: Path, text: str) -> None:
    """Writes an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def fake_python(path: Path, log: Path, version: str = "3.12") -> None:
    """An interpreter that answers the version check, makes environments and logs every other call."""
    usable = 0 if version >= "3.12" else 1
    script(
        path,
        f'if [ "$1" = -c ]; then exit {usable}; fi\n'
        f'echo "$*" >> "{log}"\n'
        'if [ "$2" = venv ]; then mkdir -p .venv/bin && cp "$0" .venv/bin/python; fi',
    )


def test_no_python_is_said_and_leaves_nothing(checkout):
    done = run(checkout, "make", "setup")
    assert done.returncode != 0
    assert "vidrec needs Python 3.12 or newer" in done.stderr
    assert not (checkout / ".venv").exists()


def test_too_old_python_is_refused_by_name(checkout):
    fake_python(checkout / "old python", checkout / "log", version="3.11")
    done = run(checkout, "make", "setup", "PYTHON=./old python")
    assert done.returncode != 0
    assert "PYTHON=./old python is not a Python >= 3.12" in done.stderr
    assert not (checkout / ".venv").exists()


def test_an_older_default_python_is_passed_over(checkout):
    log = checkout / "log"
    fake_python(checkout / "bin/python3", log, version="3.11")
    newer = Path(".pyenv", "versions", "3.13.1", "bin", "python")  # below the home folder, which is the checkout here
    fake_python(checkout / newer, log)
    done = run(checkout, "make", "setup")
    assert done.returncode == 0, done.stderr
    assert str(newer) in done.stdout


def test_setup_installs_with_hashes_and_only_once(checkout):
    log = checkout / "log"
    fake_python(checkout / "bin/python3.12", log)
    assert run(checkout, "make", "setup").returncode == 0
    calls = log.read_text().splitlines()
    assert [call.split()[1] for call in calls] == ["venv", "pip", "pip", "pip"]
    assert "--require-hashes -r requirements.lock" in calls[2]
    assert calls[3].endswith("--no-deps --no-build-isolation -e .")
    assert run(checkout, "make", "setup").returncode == 0
    assert log.read_text().splitlines() == calls
    os.utime(checkout / ".venv/.ready", (1, 1))  # older than the lock: installed again into the same .venv
    assert run(checkout, "make", "setup").returncode == 0
    assert [call.split()[1] for call in log.read_text().splitlines()[4:]] == ["pip", "pip", "pip"]


def test_setup_prefers_uv(checkout):
    log = checkout / "log"
    fake_python(checkout / "bin/python3.12", checkout / "unused")
    script(
        checkout / "bin/uv",
        f'echo "$*" >> "{log}"\nif [ "$1" = venv ]; then mkdir -p .venv/bin && cp bin/python3.12 .venv/bin/python; fi',
    )
    assert run(checkout, "make", "setup").returncode == 0
    calls = log.read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["venv", "pip", "pip"]
    assert "--require-hashes -r requirements.lock" in calls[1]
    assert not (checkout / "unused").exists()


def test_failed_installation_is_not_taken_for_finished(checkout):
    script(checkout / ".venv/bin/python", 'if [ "$2" = pip ] && [ "$3" != --version ]; then exit 1; fi')
    assert run(checkout, "make", "setup").returncode != 0
    assert not (checkout / ".venv/.ready").exists()


@pytest.mark.parametrize("line", ["--index" + "-url x", "six @ file:/" + "/x/six.whl", "# http:/" + "/index"])
def test_lock_with_an_address_is_not_taken(checkout, line):
    before = (checkout / "requirements.lock").read_text()
    script(checkout / "bin/uv", f'echo "{line}" >> build/requirements.lock')
    done = run(checkout, "make", "lock")
    assert done.returncode != 0
    assert "name an address" in done.stderr
    assert (checkout / "requirements.lock").read_text() == before


@pytest.mark.parametrize(
    ("test", "collect", "slow", "expected", "said"),
    [
        (0, 0, 0, 0, "slow tests ran"),
        (0, 5, 1, 0, "No slow tests."),
        (1, 0, 0, 1, ""),
        (0, 2, 0, 2, "could not be collected"),
        (0, 0, 1, 1, "slow tests ran"),
    ],
)
def test_ci_fails_when_anything_does(checkout, test, collect, slow, expected, said):
    (checkout / "bin/make").unlink()
    script(
        checkout / "bin/make",
        f'if [ "$1" = test ]; then exit {test}; fi\n'
        f'if [ "$1" = test-all ]; then echo slow tests ran; exit {slow}; fi\n'
        "exit 99",
    )
    script(checkout / ".venv/bin/python", f"exit {collect}")
    done = run(checkout, "bash", ".ci/run")
    assert done.returncode == expected
    assert said in done.stdout + done.stderr


def test_help_lists_every_target(checkout):
    listed = run(checkout, "make").stdout
    phony = (checkout / "Makefile").read_text().partition(".PHONY: ")[2].partition("\n")[0].split()
    assert {"setup", "demo", "test", "test-all", "test-gpu-compile", "libtpu", "lint", "lock", "clean", "help"} == set(
        phony
    )
    assert all(f"make {target} " in listed for target in phony)
