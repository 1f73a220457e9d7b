"""The benchmarks' runner: what it writes, what it keeps when something fails, and its pictures."""

import os
import re
import shutil
import socket
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from experiments import pod_check
from experiments.benchmarks import pictures, run, tables
from vidrec.errors import VidrecError
from vidrec.inspect import bench_beside, bench_compile, bench_input
from vidrec.launch.topology import parse

ROOT = Path(__file__).parents[1]
STAMP = ["machine", "python", "jax", "vidrec", "torch"]
H200 = ("gpu", "NVIDIA H200", 1)


def here(machine=H200):
    """Calls functions in this process instead of a fresh one, on what is said to be the machine."""

    def call(function, *arguments, **options):
        return machine if function is run.surroundings else function(*arguments, **options)

    return call


def compiled(config, tell):
    """What `bench_compile.measure` finds."""
    row = {"step": "train", "compile_s": 1.23456789, "cached_s": None}
    return {"model": config.model.name, "dtype": "float32", "rows": [row, {**row, "step": "eval"}], "cache_bytes": 5}


def compiled_but_stm(config, tell):
    """The same, where STM takes too much memory."""
    if config.model.name.startswith("stm"):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nand much more")
    return compiled(config, tell)


def correlated(**options):
    """What `bench_correlation.measure` finds, without a row of the volume."""
    setting = {"pairs": 2, "size": 8, "channels": 4, "patch": 5, "dtype": "float32"}
    row = {"operation": "match", "pass": "forward", "implementation": "dense", "us_per_pair": 9.0}
    rates = {"bytes": 1e9, "flops": 1e9, "scores": 1e9}
    floors = {"bytes": 3.0, "flops": 2.0, "scores": 1.0}
    return {"setting": setting, "ceilings_per_second": rates, "rows": [{**row, "floor_us": floors}]}


def texts(path: Path) -> set[str | None]:
    """The texts of a picture."""
    return {element.text for element in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")}


def test_tables_say_what_they_were_measured_on(tmp_path, monkeypatch):
    """What fails is counted, and the others are written."""
    monkeypatch.setattr(bench_compile, "measure", compiled_but_stm)
    assert run.measure(["compile"], tmp_path, quick=False, torch_python="", fresh=here()) == 1
    path = tmp_path / "nvidia-h200" / "compile.csv"
    rows = tables.read(path)
    assert list(rows[0])[:5] == STAMP
    assert {row["torch"] for row in rows} == {""}
    assert {row["machine"] for row in rows} == {"nvidia-h200"}
    assert all(row["python"] and row["jax"] and row["vidrec"] for row in rows)
    networks = [network.config.model.name for network in run.FULL]
    assert [row["network"] for row in rows[::2]] == [name for name in networks if not name.startswith("stm")]
    assert (rows[0]["compile_s"], rows[0]["cached_s"], rows[1]["step"]) == ("1.23457", "", "eval")
    text = path.read_text()
    assert not re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d", text)
    assert str(tmp_path) not in text
    assert socket.gethostname() not in text
    assert [file.name for file in path.parent.iterdir()] == ["compile.csv"]


def test_pytorch_takes_turns_where_it_has_the_network(tmp_path, monkeypatch):
    """Lines that it took turns with name it. One table has clips, a video and frames, each with columns of its own."""
    asked = {}

    def predict(config, torch_python, **options):
        asked[config.model.name] = torch_python
        rows = [{"name": "vidrec", "batch_size": 2, "ms": 2.0}] + [{"name": "PyTorch 9"}] * bool(torch_python)
        video = {"decode_ms": 1.0} if torch_python else None
        return {"model": config.model.name, "dtype": "x", "rows": rows, "video": video, "online": {}}

    def step(config, torch_python, **options):
        asked[config.model.name] = torch_python
        rows = [{"name": "vidrec", "ms": 2.0, "mfu": None}] + [{"name": "PyTorch 9"}] * bool(torch_python)
        common = {"model": config.model.name, "dtype": "x", "batch_size": 2, "compile_s": 1.0, "flops": 7}
        return {**common, "rows": rows, **({"times_torch": 3.0} if torch_python else {})}

    monkeypatch.setattr(run.bench_predict, "measure", predict)
    monkeypatch.setattr(run.bench_step, "measure", step)
    monkeypatch.setattr(run, "torch_version", lambda python: "9.9")
    for part in ("predict", "step"):
        asked.clear()
        assert run.measure([part], tmp_path, quick=False, torch_python="other", fresh=here(("cpu", "cpu", 1))) == 0
        assert [name.partition("_")[0] for name, python in asked.items() if python == "other"] == ["tsn", "tsm", "stm"]
        assert list(asked.values()).count("") == 4
    (path,) = tmp_path.glob("*/predict.csv")
    predicted, stepped = tables.read(path), tables.read(path.with_name("step.csv"))
    assert [(row["what"], row["torch"]) for row in predicted if row["network"] == "stm_resnet50"] == [
        ("clips", "9.9"), ("clips", "9.9"), ("video", ""), ("frame", ""),
    ]  # fmt: skip
    assert [row["what"] for row in predicted if row["network"].startswith("tcm")] == ["clips", "frame"]
    assert [row["torch"] for row in stepped] == ["9.9"] * 6 + [""] * 4
    assert {(row["steps"], row["rounds"]) for row in stepped} == {("5", "2")}
    assert {row["rounds"] for row in predicted} == {"2"}
    assert {row["decode_ms"] for row in predicted} == {"", "1"}
    assert [(row["name"], row["times_torch"]) for row in stepped[:2]] == [("vidrec", "3"), ("PyTorch 9", "")]
    assert all("model.num_classes" in row["overrides"] for row in stepped if row["recipe"].endswith(":toy"))


def test_the_input_s_table_says_which_pytorch_took_turns(tmp_path, monkeypatch):
    def read(setting, tell):
        names = ("vidrec", f"vidrec, {setting.workers} processes", *["PyTorch"] * bool(setting.torch_python))
        return {"rows": [{"pipeline": name} for name in names], "cores": 1, "decoder": "x"}

    monkeypatch.setattr(bench_input, "measure", read)
    monkeypatch.setattr(run.bench_videos, "make_records", lambda work: "records")
    monkeypatch.setattr(run, "torch_version", lambda python: "9.9")
    monkeypatch.setattr(bench_beside, "with_torch", lambda named: named)
    for python, torch in (("other", "9.9"), ("", "")):
        assert run.measure(["input"], tmp_path, quick=True, torch_python=python, fresh=here(("cpu", "cpu", 1))) == 0
        (path,) = tmp_path.glob("*/input.csv")
        assert [(row["torch"], row["processes"], row["rounds"]) for row in tables.read(path)] == [
            (torch, "0", "1"), (torch, "1", "1"), *[(torch, "0", "1")] * bool(python),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--only", "scaling", "--quick"], "leave --torch-python and --quick out"),
        (["--pictures", "--only", "step"], "--pictures draws the tables that are there"),
    ],
)
def test_options_without_effect_are_refused(argv, named, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.main(argv)
    assert named in capsys.readouterr().err


def test_a_table_without_lines_is_told(tmp_path, capsys):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "input.csv").write_text("machine,pipeline\n")
    assert run.main(["--pictures", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"vidrec: {tmp_path}/here/input.csv has no lines: measure that part again, or take the table away\n"
    )


def test_an_interruption_loses_nothing_finished(tmp_path, monkeypatch):
    """Of the interrupted part there is what it has, or else what was there before."""
    old = tables.write(tmp_path, "input", tables.stamp("nvidia-h200"), [{"clips_per_second": 1.0}])
    before = old.read_bytes()

    def read(setting, tell):
        raise KeyboardInterrupt

    def compile_first(config, tell):
        return compiled(config, tell) if config.model.name.startswith("tsn") else read(config, tell)

    monkeypatch.setattr(bench_compile, "measure", compile_first)
    monkeypatch.setattr(bench_input, "measure", read)
    monkeypatch.setattr(run.bench_videos, "make_records", lambda work: "records")
    for part in ("compile", "input"):
        with pytest.raises(KeyboardInterrupt):
            run.measure([part], tmp_path, quick=False, torch_python="", fresh=here())
    assert old.read_bytes() == before
    assert sorted(file.name for file in old.parent.iterdir()) == ["compile.csv", "input.csv"]
    assert [row["network"] for row in tables.read(old.with_name("compile.csv"))] == ["tsn_resnet50"] * 2


def test_the_roofline_shows_every_implementation(tmp_path):
    """Measured with tiny maps; work and bytes are what a pair needs at least, whatever the ceilings are."""
    fresh = here(("cpu", "cpu", 1))
    assert run.measure(["correlation"], tmp_path, quick=True, torch_python="", fresh=fresh) == 0
    (table,) = tmp_path.glob("*/correlation.csv")
    rows = tables.read(table)
    assert table.parent.name == rows[0]["machine"]
    assert {row["rounds"] for row in rows} == {"10"}
    for row in rows:
        size, channels, patch = (int(row[name]) for name in ("size", "channels", "patch"))
        match, back = row["operation"] == "match", row["pass"] == "forward+backward"
        inside = sum(abs(a - b) <= patch // 2 for a in range(size) for b in range(size)) ** 2  # of all windows
        maps, results = 2 * size**2 * channels, size**2 * (3 if match else patch**2)
        products = 1 + back * (3 if match else 2)
        assert float(row["flops_per_pair"]) == pytest.approx(2 * channels * inside * products, rel=1e-5)
        moved = maps + results + back * (2 * maps + results)
        assert row["dtype"] == "float32"
        assert float(row["bytes_per_pair"]) == pytest.approx(4 * moved, rel=1e-5)
    drawn = pictures.draw(tmp_path)
    assert [path.name for path in drawn] == ["roofline.svg", "roofline_volume.svg"]
    for path, operation in zip(drawn, ("match", "correlate"), strict=True):
        marks = {f"{row['implementation']}, {row['pass']}" for row in rows if row["operation"] == operation}
        assert len(marks) == 4
        assert marks < texts(path)
        assert any((text or "").startswith("memory, ") for text in texts(path))
        assert ({"scores, forward", "scores, forward+backward"} <= texts(path)) == (operation == "match")


def test_an_operation_without_rows_has_no_roofline(tmp_path, monkeypatch):
    monkeypatch.setattr(run.bench_correlation, "measure", correlated)
    assert run.measure(["correlation"], tmp_path, quick=True, torch_python="", fresh=here()) == 0
    assert [path.name for path in pictures.draw(tmp_path)] == ["roofline.svg"]


def test_the_input_s_picture_has_a_line_of_each_pipeline(tmp_path):
    row = {"frames": 8, "cores": 4}
    rates = (
        ("vidrec", 0, 100.0),
        ("Pillow", 0, 30.0),
        ("vidrec, 1 processes", 1, 90.0),
        ("vidrec, 2 processes", 2, 170.0),
    )
    rows = [{**row, "pipeline": name, "processes": n, "clips_per_second": rate} for name, n, rate in rates]
    tables.write(tmp_path, "input", tables.stamp("xeon-4-cores"), rows)
    (path,) = pictures.draw(tmp_path)
    assert path == tmp_path / "xeon-4-cores" / "input.svg"
    assert {"vidrec", "Pillow"} <= texts(path)
    assert not texts(path) & {"vidrec, 1 processes"}


def test_weak_scaling_is_what_the_experiments_print():
    """The table of experiments/README.md, cell by cell, in the CSV file and the picture of it."""
    path = tables.RESULTS / "tpu-v5e-static" / "scaling.csv"
    printed = [line for line in (ROOT / "experiments/README.md").read_text().splitlines() if line.startswith("| v5e:")]
    rows = tables.read(path)
    assert [f"| {row['topology']} | {' | '.join(row[name] for name in pod_check.COLUMNS)} |" for row in rows] == printed
    assert [point[0] for point in pod_check.SCALING] == [row["topology"] for row in rows]
    assert all(int(row["chips"]) == parse(row["topology"]).chips for row in rows)
    assert pod_check.HEAD in (ROOT / "experiments/README.md").read_text()
    assert {"chips, tpu-v5e-static", "times that of 8 chips", "1.0"} <= texts(path.with_suffix(".svg"))


def test_scaling_that_cannot_be_compiled_replaces_nothing(tmp_path, monkeypatch, capsys):
    def compile_for(*arguments, **options):
        raise VidrecError("the compiler is not installed")

    monkeypatch.setattr(pod_check, "compile_for", compile_for)
    assert run.main(["--only", "scaling", "--out", str(tmp_path)]) == 1
    assert not list(tmp_path.iterdir())
    said = capsys.readouterr()
    assert "| v5e:4x4 | 8 | no: the compiler is not installed |" in said.out
    assert "vidrec: the table of weak scaling is not written: the compiler is not installed" in said.err


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("quick", [False, True])
def test_plans_are_of_recipes(backend, quick):
    """Every network loads with its changes; a full plan has all papers, and PyTorch's side has the family of STM."""
    plan = run.plan(backend, quick)
    names = [network.config.model.name.partition("_")[0] for network in plan.networks]
    assert all(network.config.model.num_classes for network in (*plan.networks, *plan.compiled))
    if not quick:
        assert names == ["tsn", "tsm", "stm", "tcm", "tefe", "ttsn", "direcformer"]
        beside = [not bench_beside.without_network(network.config) for network in plan.networks]
        assert beside == [True] * 3 + [False] * 4
    assert plan.workers


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Intel(R) Xeon(R) Processor @ 2.60GHz", "xeon"),
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "xeon-platinum-8481c"),
        ("AMD EPYC 9B14 96-Core Processor", "epyc-9b14"),
    ],
)
def test_machines_have_short_names(model, name, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: {model}\nflags\t: fpu\n")
    assert tables.processor(tmp_path / "cpuinfo") == name
    assert tables.processor(tmp_path / "nowhere")
    assert re.fullmatch(r"[a-z0-9.-]+-\d+-cores", tables.name_of("cpu", "cpu", 1))
    assert tables.name_of("gpu", "NVIDIA H200", 2) == "nvidia-h200-x2"


def test_measurements_have_processes_of_their_own():
    assert run.in_fresh_process(os.getpid) != os.getpid()


@pytest.mark.skipif(not shutil.which("timeout"), reason="needs coreutils")
def test_a_failing_part_of_the_gpu_script_stops_no_other(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\ncase "$*" in *step*) exit 3;; esac\n')
    python.chmod(0o755)
    environment = os.environ | {"PYTHON": "./python", "OUT": "out", "TORCH_PYTHON": "other"}
    script = ROOT / "experiments/benchmarks/gpu.sh"
    done = subprocess.run(["bash", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "failed: step (3)" in done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert ["pytest" in calls[0], "--pictures" in calls[-1]] == [True, True]
    parts = [call.split() for call in calls[1:-1]]
    assert [call[call.index("--only") + 1] for call in parts] == ["correlation", "step", "predict", "compile"]
    assert all(call[-2:] == ["--torch-python", "other"] for call in parts)
    assert all(Path(call[call.index("--out") + 1]).samefile(tmp_path / "out") for call in parts)
    assert sum(map(int, re.findall(r"^(?:part|bounded) \S+ (\d+)", script.read_text(), re.MULTILINE))) < 600
