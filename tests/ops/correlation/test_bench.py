"""What is measured, and what the TPU compiler says."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import pytest

from vidrec.cli import main
from vidrec.ops.correlation import bench, static


@pytest.mark.slow
def test_all_that_can_run_is_measured_on_the_same_work(capsys):
    setting = ["--pairs", "2", "--size", "4", "--channels", "2", "--patch", "3", "--rounds", "1"]
    assert main(["bench", "correlation", *setting, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["setting"]["patch"] == 3
    rows = {(row["operation"], row["pass"], row["implementation"]): row for row in report["rows"]}
    assert len(rows) == len(report["rows"]) == 8
    assert {name for _, _, name in rows} == {"dense", "gather"}
    for (operation, direction, name), row in rows.items():
        assert row["us_per_pair"] > 0
        assert row["floor_us"] == rows[operation, direction, "dense"]["floor_us"]
        ratio = rows[operation, direction, "gather"]["us_per_pair"] / row["us_per_pair"]
        assert row["times_as_fast_as_gather"] == pytest.approx(ratio)
        assert row["times_as_fast_as_gather"] == pytest.approx(1) if name == "gather" else True
    assert len(bench.text(report).splitlines()) == 3 + len(rows)


def test_the_floor_counts_what_cannot_be_avoided():
    """One map of 2 x 2 with 3 channels: 16 pairs of positions, all within windows of 3."""
    setting = bench.Setting(1, 2, 3, 3, "float32")
    ceilings = bench.Ceilings(bytes=1.0, flops=1.0, scores=1.0)
    maps, results = 2 * 4 * 3 * 4, 4 * 3 * 4
    assert bench.floor("match", "forward", setting, ceilings) == {"bytes": maps + results, "flops": 96, "scores": 16}
    both = bench.floor("match", "forward+backward", setting, ceilings)
    assert both == {"bytes": 3 * maps + 2 * results, "flops": 4 * 96, "scores": 32}
    volume = bench.floor("correlate", "forward+backward", setting, ceilings)
    assert volume == {"bytes": 3 * maps + 2 * 4 * 9 * 4, "flops": 3 * 96, "scores": 0}


def test_products_are_as_exact_as_the_implementations_are():
    assert "HIGHEST" in str(jax.make_jaxpr(bench.squared)(jnp.ones((2, 2))))


def test_the_doctor_says_what_runs_here_and_why(capsys):
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["correlation"]["bfloat16"] == {"name": "dense", "reason": "there is no kernel for a cpu"}
    assert main(["doctor"]) == 0
    assert "dense, because there is no kernel for a cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--patch", "4"], "patch odd"),
        (["--size", "0"], "must be positive"),
        (["--chip", "v5e"], "--chip has no effect without --static"),
        (["--static", "--chip", "v9"], "v9"),
        (["--static", "--rounds", "3"], "--rounds has no effect"),
    ],
)
def test_wrong_settings_are_told(options, told, capsys):
    assert main(["bench", "correlation", *options]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the TPU compiler, libtpu, is not installed")
def test_the_kernels_move_a_fraction_of_the_bytes():
    found = static.account(chips=("v5e",))["chips"]["v5e"]
    match = {
        p["implementation"]: p for p in found["programs"] if (p["operation"], p["pass"]) == ("match", bench.PASSES[1])
    }
    assert match["dense"]["bytes_to_kernel"] > 2.5
    assert match["gather"]["bytes_to_kernel"] > 25
    assert match["pallas_tpu"]["temp_bytes"] == 0
    assert found["bundles_per_tile"]["vidrec_match_forward"] < 500
    assert found["bundles_per_tile"]["vidrec_match_backward"] < 750
