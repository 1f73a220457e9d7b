"""Compiling for slices: what is decided before and after the compiler runs, and the compiler itself in slow tests."""

import importlib.util
import json
from types import SimpleNamespace

import jax
import pytest

from vidrec import cli
from vidrec.errors import UsageError, VidrecError
from vidrec.inspect.peaks import Peak
from vidrec.launch import account, compile, hlo, report, worker
from vidrec.train.recipe import load_recipe

OOM = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
    "temporaries (16.24G) exceeds available HBM (15.75G). HLO module: jit_step.\nSee elsewhere."
)


def recipe(*overrides: str):
    return load_recipe("configs/tcm.py:ssv1", overrides)


def test_the_recipe_s_batch_or_eight_clips_a_device():
    assert worker.batch_sizes(recipe(), 8, None) == {"train": 32, "eval": 64, "per_device": 4, "reason": ""}
    large = worker.batch_sizes(recipe(), 256, None)
    assert (large["train"], large["eval"], large["per_device"]) == (2048, 2048, 8)
    assert "batch of 32 does not split over 256" in large["reason"]
    assert worker.batch_sizes(recipe(), 8, 128)["per_device"] == 16
    with pytest.raises(UsageError, match="multiple of 8"):
        worker.batch_sizes(recipe(), 8, 100)


def test_batches_keep_the_groups_of_the_norms_whole():
    assert worker.unit(recipe()) == 8  # group:8
    assert worker.unit(recipe("--config.model.bn=global")) == 1
    assert worker.unit(recipe("--config.model.bn=group:4", "--config.train.accumulate=3")) == 12


@pytest.mark.parametrize(("most", "found"), [(40, 40), (47, 40), (48, 48), (7, 0), (8, 8), (200, 192)])
def test_the_largest_batch_is_found_by_bisection(most, found):
    tried: list[int] = []

    def fits(clips: int) -> bool:
        tried.append(clips)
        return clips <= most

    result = worker.largest(fits, 16, most >= 16, 8)
    assert result["per_device"] == found
    assert found <= most < result["too_many"] <= max(found + 8, found * 9 / 8 + 8)
    assert all(clips % 8 == 0 for clips in tried)
    assert len(tried) <= 7


class Lowered:
    """A step whose compiler fails, or says how much memory it takes."""

    def __init__(self, error: Exception | None = None, **sizes: int):
        self.error = error
        self.sizes = {
            f"{kind}_size_in_bytes": sizes.get(kind, 0)
            for kind in ("argument", "output", "alias", "temp", "generated_code")
        }

    def compile(self):
        if self.error:
            raise self.error
        return SimpleNamespace(memory_analysis=lambda: SimpleNamespace(**self.sizes))


def test_too_much_memory_is_told_with_the_compiler_s_numbers():
    with pytest.raises(account.DoesNotFit, match=r"\(16\.24G\) exceeds available HBM \(15\.75G\)$"):
        account.compile_step(Lowered(jax.errors.JaxRuntimeError(OOM)), None)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        account.compile_step(Lowered(jax.errors.JaxRuntimeError("INTERNAL: x")), None)


def test_a_compiler_that_takes_any_size_is_not_believed():
    """That of GPUs: what its program needs is compared with what they have."""
    fitting = Lowered(argument=60, output=50, alias=50, temp=40)
    assert account.memory(account.compile_step(fitting, 100))["total"] == 100
    with pytest.raises(account.DoesNotFit, match=r"needs 0\.00 GB of 0\.00 GB"):
        account.compile_step(fitting, 99)


def test_a_child_s_errors_are_raised(monkeypatch):
    """What the process that compiles writes, line by line; it may also end without a result."""
    said: list[str] = []
    for script, error, message in (
        ('print(\'{"now": "hello"}\'); print(\'{"error": "too large", "usage": false}\')', VidrecError, "too large"),
        ('print(\'{"error": "no such slice", "usage": true}\')', UsageError, "no such slice"),
        ("import sys; sys.exit('compiler crashed')", VidrecError, "compiler crashed"),
    ):
        start = compile.subprocess.Popen
        monkeypatch.setattr(
            compile.subprocess, "Popen", lambda command, s=script, p=start, **k: p([command[0], "-c", s], **k)
        )
        with pytest.raises(error, match=message) as raised:
            compile.compile_for(recipe(), "v5e:2x4", tell=said.append)
        assert raised.type is error
        monkeypatch.undo()
    assert said == ["hello"]


def test_roofline_is_the_slowest_of_three():
    costs = {"flops": {"counted": 4e12, "useful": 3e12}, "bytes": 1e9}
    limits = account.Limits(Peak(1e12, 1e9, 1e9), 1e9)
    found = account.roofline(costs, 2e9, limits)
    assert found["seconds"] == {"arithmetic": 4, "memory": 1, "network": 2, "step": 4}
    assert (found["bound"], found["utilisation"]) == ("arithmetic", 0.75)
    slow = account.roofline({**costs, "bytes": 6e9}, 0, limits)
    assert (slow["bound"], slow["utilisation"]) == ("memory", 0.5)
    unknown = account.roofline({**costs, "bytes": None}, 0, account.Limits(None, None))
    assert unknown["bound"] is None


def test_memory_counts_what_is_donated_once():
    sizes = {"argument": 100, "output": 60, "alias": 50, "temp": 30, "generated_code": 5}
    stats = SimpleNamespace(**{f"{name}_size_in_bytes": size for name, size in sizes.items()})
    assert account.memory(SimpleNamespace(memory_analysis=lambda: stats))["total"] == 100 + (60 - 50) + 30 + 5


def test_collectives_are_added_up_by_kind():
    found = [hlo.Collective("all-reduce", 100, 2, 3, "a"), hlo.Collective("all-reduce", 10, 2, 1, "b")]
    found.append(hlo.Collective("all-gather", 400, 4, 1, "c"))
    told = account.collected(found)
    assert told["count"] == 5
    assert told["kinds"]["all-reduce"] == {"count": 4, "bytes": 310, "wire_bytes": 310}
    assert told["wire_bytes"] == 310 + 300
    assert [one["name"] for one in told["largest"]] == ["c", "a", "b"]


def test_from_the_command_line_wrong_names_are_usage(capsys):
    words = ["compile", "--config", "configs/tcm.py:ssv1", "--topology"]
    assert cli.main([*words, "v5e"]) == 2
    assert "v5p: 1x1x1" in capsys.readouterr().err


needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
TINY = ("stage_sizes=(1,1)", "widths=(16,32)", "strides=(1,2)", "stem=half", "stem_width=16", "tcm_stages=(3,)")


@pytest.mark.slow
@needs_libtpu
def test_a_training_step_compiles_for_a_slice(capsys):
    """A tiny TCM-Net: the state is donated whole, gradients travel once, the kernel is there."""
    words = ["compile", "--config", "configs/tcm.py:ssv1", "--topology", "v5e:2x4", "--batch", "64", "--json"]
    words += [f"--config.model.{field}" for field in TINY] + ["--config.data.image_size=32"]
    assert cli.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    train, state = found["train"], found["state_bytes"]
    assert found["topology"]["devices"] == 8
    assert found["topology"]["memory_bytes"] == round(15.75 * 2**30)
    assert found["fits"]
    held = state["params"] + state["batch_stats"] + state["opt_state"]
    assert train["memory"]["donated"] >= held  # with the padding of the device's layouts
    reduced = train["collectives"]["kinds"]["all-reduce"]
    assert reduced["count"] <= 5
    assert state["all_params"] / 2 <= reduced["bytes"] <= 1.2 * state["all_params"]  # once, in bfloat16 or float32
    assert train["kernels"] == {"vidrec_match_forward": 1, "vidrec_match_backward": 1}
    assert found["eval"]["collectives"]["wire_bytes"] < 1e5
    assert 0 < train["roofline"]["utilisation"] < 1
    assert report.text(found)


@pytest.mark.slow
@needs_libtpu
def test_256_chips_send_no_more_than_8(capsys):
    words = ["compile", "--config", "configs/tcm.py:ssv1", "--topology", "v5e:16x16", "--json"]
    words += [f"--config.model.{field}" for field in TINY] + ["--config.data.image_size=32"]
    assert cli.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["batch"] == {**found["batch"], "train": 2048, "per_device": 8}
    assert found["topology"]["hosts"] == 64
    assert found["train"]["collectives"]["count"] <= 5
    assert found["train"]["collectives"]["wire_bytes"] <= 2.2 * found["state_bytes"]["all_params"]


@pytest.mark.slow
@needs_libtpu
def test_what_does_not_fit_ends_with_status_1(capsys):
    words = ["compile", "--config", "configs/tsm.py:ssv1", "--topology", "v5e:1x1", "--batch", "8192"]
    words += [f"--config.model.{field}" for field in TINY[:-1]] + ["--config.data.image_size=224"]
    assert cli.main(words) == 1
    told = capsys.readouterr().err
    assert "8192 on each device, does not fit v5e:1x1" in told
    assert "15.75G" in told


def test_nothing_here_started_a_tpu():
    assert jax.default_backend() == "cpu"
