"""The report of runs: what stands in it is what their folders hold."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.inspect.browser import CHROMIUM, browser
from vidrec import cli
from vidrec.errors import UsageError, VidrecError
from vidrec.eval.evaluate import make_evaluator
from vidrec.eval.predict import load
from vidrec.eval.scores import Evaluation
from vidrec.inspect.charts import escape
from vidrec.inspect.looking import overlay_of
from vidrec.inspect.results import confused_lines, names_of, read_evaluation
from vidrec.inspect.run_clips import worth_seeing
from vidrec.inspect.run_report import report
from vidrec.train.loop import train


@pytest.fixture(scope="module")
def runs(tiny_config, tmp_path_factory):
    """Two folders of the same small run, of which the first was evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    config = tiny_config("tsn_resnet18", train__steps=4, train__eval_every=2, eval__sampling="twice", eval__clips=2)
    train(config, folder / "first", make_evaluator)
    shutil.copytree(folder / "first", folder / "second")
    assert cli.main(["eval", "--workdir", str(folder / "first")]) == 0
    return folder / "first", folder / "second"


def test_a_run_is_told_as_its_folder_has_it(runs, tmp_path):
    first, _ = runs
    result = report([first], clips=4)
    page = (first / "report.html").read_text(encoding="utf-8")
    counted = json.loads((first / "eval/results.json").read_text())
    top1, (low, high) = counted["top1"], counted["intervals"]["top1"]
    assert result["runs"]["first"]["top1"] == top1
    assert f"Of 12 videos put into the right one of 2 classes: first {top1:.1%}." in page
    assert f'<td class="number" data-title="top-1, chance 50.0%">{top1:.1%}' in page
    start = json.loads((first / "card.json").read_text())["starts"][-1]
    for fact in (start["fingerprint"], start["data"]["eval"]["digest"], start["labels"]["digest"]):
        assert fact in page
    assert page.count('<article class="card clip">') == result["clips"] == 4
    assert page.count('alt="Confusion matrix of first') == 1
    assert "Training loss" in page
    for name, videos, accuracy in read_evaluation(first).per_class():
        assert f'<tr><th scope="row">{name}</th><td class="number" data-title="videos">{videos}</td>' in page
        assert f'data-title="first">{accuracy:.1%}<' in page
    for line in confused_lines(read_evaluation(first)):
        assert f"<li>{escape(line.strip())}</li>" in page
    assert '<td data-title="clips x crops">2 x 1, twice</td>' in page
    assert f'<td data-title="top-1, 95 % interval">{low:.1%} to {high:.1%}</td>' in page
    assert f'data-title="calibration error">{counted["ece"]:.3f}<' in page


def test_clips_are_seen_with_what_the_network_looks_at(runs, video_list, tmp_path):
    report([runs[0]], out=tmp_path / "report.html", clips=1)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    (video,) = re.findall(r'<p class="note">(.*?)</p>', page)
    (picture,) = re.findall(r'class="moving" src="data:image/webp;base64,(.*?)"', page)
    network = load(runs[0])
    overlay = overlay_of(network, video_list / f"{video}.mp4")
    with Image.open(io.BytesIO(base64.b64decode(picture))) as film:
        frames = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)])
    assert frames.shape == overlay.shape
    assert np.abs(frames.astype(int) - overlay).mean() < 8  # two lossy codecs lie between
    plain = network.clip(video_list / f"{video}.mp4").repeat(8, 1).repeat(8, 2)
    assert np.abs(plain.astype(int) - overlay).mean() > 16


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_shows_it_on_a_phone_and_on_a_desk_and_by_keyboard(runs, tmp_path):
    path = tmp_path / "report.html"
    report(runs, out=path, clips=2)
    with browser(tmp_path / "profile") as page:
        for width in (360, 1280):
            page.open(path, width)
            assert page.value("document.documentElement.scrollWidth") == width  # nothing runs out to the right
            shot = page.shot()
            assert (np.abs(shot - shot[0, 0]).max(-1) > 60).any(1)[:800].mean() > 0.3  # text from the top on
        images = "Promise.all([...document.images].map(one => {one.loading = 'eager'; return one.decode()}))"
        assert page.value(f"{images}.then(() => true)")
        for kind, count in ((".charts svg", 3), (".matrices img", 1), (".clip .moving", 2), (".clip .still", 2)):
            assert page.value(f"document.querySelectorAll('{kind}').length") == count
        focused = []
        for _ in range(4):
            page.press("Tab", 9)
            focused.append(page.value("document.activeElement.ariaLabel ?? document.activeElement.type"))
        assert focused == ["Results", "Each class", "checkbox", "Runs"]
        page.value("document.querySelector('.hold input').focus()")
        page.press(" ", 32, " ")
        visible = "getComputedStyle(document.querySelector('.clip .{}')).display"
        assert [page.value(visible.format(kind)) for kind in ("still", "moving")] == ["block", "none"]
        assert page.complaints == []
        assert page.requests == [path.as_uri()] * 2


def test_runs_that_were_evaluated_otherwise_are_told(runs, tmp_path):
    """Accuracies of different protocols do not compare."""
    shutil.copytree(runs[0], tmp_path / "other")
    results = tmp_path / "other/eval/results.json"
    written = json.loads(results.read_text()) | {"protocol": "stm30", "clips": 10, "crops": 3, "sampling": "uniform"}
    results.write_text(json.dumps(written))
    result = report([runs[0], tmp_path / "other"], out=tmp_path / "report.html", clips=0)
    assert result["notes"] == ["Accuracies are of different views: first 2 x 1, twice; other 10 x 3, stm30, uniform."]


def test_runs_beside_each_other(runs, tmp_path, capsys):
    first, second = runs
    out = tmp_path / "both.html"
    words = ["report", "--workdir", str(second), str(first), "--out", str(out), "--clips", "0", "--json"]
    assert cli.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    page = out.read_text(encoding="utf-8")
    assert list(told["runs"]) == ["second", "first"]
    assert told["clips"] == 0
    assert "second was not evaluated by itself" in told["notes"][0]
    assert "Confusion matrix of first" in page
    assert "Confusion matrix of second" not in page
    assert re.search(r'<th scope="col">second<small></small></th><th scope="col">first', page)


def test_runs_that_were_evaluated_on_other_videos_and_at_other_steps(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "other")
    path = tmp_path / "other/eval/scores.npz"
    with np.load(path) as file:
        arrays = dict(file)
    kept = {name: arrays[name][:5] for name in ("scores", "labels", "read", "video_ids", "logits")}
    np.savez(path, **arrays | kept)
    results = path.with_name("results.json")
    results.write_text(json.dumps(json.loads(results.read_text()) | {"step": 2}))
    result = report([runs[0], tmp_path / "other"], out=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('class="network">first<') == 12
    assert page.count('class="network">other<') == 5
    assert "of 12, other" in page
    assert "other was evaluated at step 2; its newest checkpoint is of 4." in result["notes"]
    np.savez(path, **arrays | {"video_ids": np.array([f"elsewhere/{i}" for i in range(12)])})
    result = report([tmp_path / "other"], out=tmp_path / "report.html")
    assert result["clips"] == 0
    assert "evaluated on other videos" in result["notes"][0]


def test_an_evaluation_that_all_runs_have_is_told(runs, tmp_path):
    """Of one run with a plain evaluation and one by a protocol, beside a run with the second alone: the second."""
    for name in ("both", "one"):
        shutil.copytree(runs[0], tmp_path / name)
        shutil.copytree(runs[0] / "eval", tmp_path / name / "eval/stm30")
        results = tmp_path / name / "eval/stm30/results.json"
        results.write_text(json.dumps(json.loads(results.read_text()) | {"protocol": "stm30", "clips": 10, "crops": 3}))
    (tmp_path / "one/eval/results.json").unlink()
    result = report([tmp_path / "both", tmp_path / "one"], out=tmp_path / "report.html", clips=0)
    assert [run["protocol"] for run in result["runs"].values()] == ["stm30", "stm30"]
    assert result["notes"] == []


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("eval/scores.npz", "eval/scores.npz is damaged"),
        ("eval/results.json", "eval/results.json is damaged"),
        ("card.json", "card.json is not a card of a run"),
    ],
)
def test_damaged_files_are_named(runs, tmp_path, file, sentence):
    shutil.copytree(runs[0], tmp_path / "run")
    path = tmp_path / "run" / file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(VidrecError, match=sentence):
        report([tmp_path / "run"], clips=0)


def test_what_a_folder_lacks_is_told(runs, tmp_path):
    """As of imported weights, which were trained elsewhere."""
    shutil.copytree(runs[1], tmp_path / "run")
    for name in ("metrics.jsonl", "card.json"):
        (tmp_path / "run" / name).unlink()
    result = report([tmp_path / "run"])
    assert result["notes"] == [
        "run has no metrics.jsonl: there are no curves of its training.",
        "run has no card.json: what it was made of is not told.",
    ]
    assert result["clips"] == 0
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "No run has been evaluated yet." in page
    shutil.rmtree(tmp_path / "run/checkpoints")
    with pytest.raises(UsageError, match="there is no checkpoint in"):
        report([tmp_path / "run"])


def test_clips_are_left_out_with_a_word_where_the_records_are_gone(runs, records, tmp_path):
    moved = records.with_name("elsewhere")
    records.rename(moved)
    try:
        result = report([runs[0]], out=tmp_path / "report.html")
    finally:
        moved.rename(records)
    assert result["clips"] == 0
    assert "the records cannot be opened" in result["notes"][0]


def test_the_surest_mistakes_come_first_and_then_each_class_in_turn():
    sure = np.array([0.9, 0.6, 0.8, 0.7, 0.99, 0.95, 0.55])
    said, labels = np.array([1, 1, 0, 0, 1, 1, 0]), np.array([0, 0, 0, 0, 1, 1, 1])
    scores = np.stack([np.where(said == k, sure, 1 - sure) for k in (0, 1)], axis=1)
    read = np.array([True] * 6 + [False])
    evaluation = Evaluation(scores, labels, read, list("abcdefg"), ("x", "y"))
    assert worth_seeing(evaluation, 2, "abcdefg") == [0, 4]
    assert worth_seeing(evaluation, 10, "abcdefg") == [0, 1, 4, 2, 5, 3]
    assert worth_seeing(evaluation, 2, "bcd") == [1, 2]


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    assert names_of([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert names_of([tmp_path / "a/run", tmp_path / "b/run"]) == ["a/run", "b/run"]
    with pytest.raises(UsageError, match="given twice"):
        names_of([tmp_path / "a", tmp_path / "a"])


def test_what_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="there is no"):
        report([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="--clips"):
        report([tmp_path], clips=-1)
