"""What holds for the whole tree: light imports, documented names, small modules, texts that fit any machine."""

import argparse
import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from vidrec import cli

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "vidrec").rglob("*.py"))
HEAVY = {"jax", "jaxlib", "flax", "optax", "orbax", "grain", "tensorflow", "tensorflow_datasets", "numpy", "cv2", "av"}
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))

# In pieces, so that this file does not find itself.
_FOLDERS = "|".join(("root", "work", "home", "Users", "opt"))
FOREIGN = {
    "address of a package index": re.compile(
        "|".join(
            (r"pypi\.(org|python)", r"pythonhosted\.or" + "g", r"registry\.npm" + "js", r"--(extra-)?index" + "-url")
        )
    ),
    "path of one machine": re.compile(rf"(?<![\w.$}}-])/({_FOLDERS})/\w"),
}


def modules_loaded_by(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter loads for `statement`."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def tracked_files() -> list[Path]:
    """The files under version control; without a repository, all that are not products of a build."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    made = {".venv", "runs", "build", "dist", "__pycache__"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not made & set(path.relative_to(ROOT).parts)]


def module_level_imports(path: Path) -> set[str]:
    """Dotted names imported when `path` is imported: those inside functions and for type checking do not count."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


def definitions(parent: ast.AST) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The public classes and functions of a module or class, those under `if` and `try` included."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("_"):
                yield node
        elif isinstance(node, ast.If | ast.Try | ast.ExceptHandler):
            yield from definitions(node)


@functools.cache
def documented_methods() -> dict[str, set[str]]:
    """Class -> its methods with a docstring, over all modules."""
    classes = [node for path in MODULES for node in definitions(ast.parse(path.read_text())) if hasattr(node, "bases")]
    return {c.name: {method.name for method in definitions(c) if ast.get_docstring(method)} for c in classes}


def undocumented(path: Path) -> list[str]:
    """What is public in a module and has no docstring, nor inherits one; and the module itself."""
    tree = ast.parse(path.read_text())
    missing = [] if ast.get_docstring(tree) or not tree.body else ["the module"]
    waiting: list[tuple[ast.Module | ast.ClassDef, str, set[str]]] = [(tree, "", set())]
    while waiting:
        parent, prefix, inherited = waiting.pop()
        for node in definitions(parent):
            if not ast.get_docstring(node) and node.name not in inherited:
                missing.append(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
                from_bases = {"setup"}.union(*(documented_methods().get(base, set()) for base in bases))  # flax's setup
                waiting.append((node, f"{prefix}{node.name}.", from_bases))
    return missing


def test_importing_vidrec_loads_vidrec_alone():
    loaded = modules_loaded_by("import vidrec")
    assert {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names} == {"vidrec"}


def test_subpackages_need_no_import_of_their_own():
    loaded = modules_loaded_by("import vidrec; vidrec.inspect; vidrec.ops; vidrec.interop; vidrec.launch")
    assert {"vidrec.inspect", "vidrec.ops", "vidrec.interop", "vidrec.launch"} <= loaded
    assert not HEAVY & loaded


def test_command_line_starts_without_heavy_packages():
    assert not HEAVY & modules_loaded_by("import vidrec.cli")


@pytest.mark.parametrize("path", sorted((ROOT / "vidrec/data").rglob("*.py")), ids=lambda path: path.stem)
def test_data_modules_import_no_jax_and_no_tfds_at_import_time(path):
    """The import contracts hold for jax, anywhere in a module; tensorflow_datasets may be imported inside functions."""
    banned = {"tensorflow_datasets", "tensorflow", "flax"} | ({"jax"} if path.stem != "feed" else set())
    assert not {name for name in module_level_imports(path) if name.partition(".")[0] in banned}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_is_documented_and_small(path):
    assert not undocumented(path)
    assert len(path.read_text().splitlines()) <= 400, "this is two modules"


def test_missing_docstrings_are_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "class A:\n    def setup(self): ...\n    def b(self): ...\n    def _c(self): ...\nif 1:\n    def setup(): ...\n"
    )
    assert sorted(undocumented(path)) == ["A", "A.b", "setup", "the module"]


def test_module_level_imports_are_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\nelse:\n    import b\n"
        "try:\n    from c import d\nexcept ImportError: ...\ndef f():\n    import e\nclass G:\n    import h\n"
    )
    assert module_level_imports(path) >= {"b", "c", "c.d", "h"}
    assert not module_level_imports(path) & {"a", "e"}


def test_files_fit_any_machine():
    found = []
    for path in tracked_files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:  # pictures, videos, arrays
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            found += [f"{path.relative_to(ROOT)}:{number}: {what}" for what, p in FOREIGN.items() if p.search(line)]
    assert not found


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("--hash=x https:/" + "/files.python" + "hosted.org/a.whl", "address of a package index"),
        ("pip install --extra-index" + "-url x", "address of a package index"),
        ("open('/" + "home/me/data')", "path of one machine"),
        ("data=/" + "work/records", "path of one machine"),
    ],
)
def test_foreign_texts_are_recognised(line, what):
    assert FOREIGN[what].search(line)


def test_texts_of_every_machine_are_not_foreign():
    for line in (
        "network/work/x",
        "https://arxiv.org/abs/1",
        "$HOME/opt/x",
        "/dev/null",
        "/tmp/x",
        "gs://bucket/opt/x",
    ):
        assert not any(pattern.search(line) for pattern in FOREIGN.values()), line


def test_lock_has_hashes_and_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["video"], *extras["log"], *extras["dev"]]
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements.lock").read_text().partition("\n\n")[0])[1:]
    locked = dict(entry.split(" ", 1)[0].split("==") for entry in entries)
    assert all("--hash=sha256:" in entry for entry in entries)
    for requirement in map(Requirement, wanted):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert requirement.specifier.contains(locked[name]), f"{requirement} is not locked; run `make lock`"
    assert "libtpu" not in locked  # 200 MB that only TPU machines need


def test_there_is_one_lock():
    assert not (ROOT / "uv.lock").exists()  # it would hold the addresses of one machine's index


def test_help_lists_every_verb(capsys):
    action = next(a for a in cli.make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    listed = _help(capsys)
    assert len(action.choices) >= 5
    assert [verb for verb in action.choices if not re.search(rf"^ +{verb}\b +\S", listed, flags=re.MULTILINE)] == []
    for verb in action.choices:
        text = _help(capsys, verb)
        assert f"\n  vidrec {verb} " in text.partition("example:")[2], f"vidrec {verb} --help shows no example"


def test_readme_names_real_commands(capsys):
    readme = ROOT / "README.md"
    text = readme.read_text() if readme.exists() else ""
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL))
    listed = _help(capsys)
    assert not set(re.findall(r"\bmake ([a-z][a-z-]*)", code)) - TARGETS
    assert not [verb for verb in re.findall(r"\bvidrec ([a-z]+)", code) if not re.search(rf"^ +{verb} ", listed, re.M)]


def _help(capsys, *verb: str) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main([*verb, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out
