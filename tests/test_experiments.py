"""The papers' tables at toy scale: what is run, what is kept, and when a claim is said to hold."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict
from PIL import Image

from experiments import figures, grid, paper, regress
from experiments.figures import Look, Mark
from experiments.grid import SCALES, Claim, Results, Row, Study, Videos
from tests.configs.recipes import network
from vidrec.config import base, sweep

SVG = "{http://www.w3.org/2000/svg}"
STUDIES = [(paper, name) for paper in regress.PAPERS for name in regress.studies_of(paper)]


def verdict(a, b):
    study = Study("two rows", "configs/stm.py", "ssv1", {"a": Row(""), "b": Row("modules=cmm")}, (Claim("a", "b"),))
    (found,) = grid.verdicts(study, {"a": dict(enumerate(a)), "b": dict(enumerate(b))})
    return found


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        ((90.0, 91.0, 92.0), (80.0, 81.5, 81.0), "holds"),
        ((80.0, 81.5, 81.0), (90.0, 91.0, 92.0), "reversed"),
        ((90.0, 80.0, 92.0), (85.0, 84.0, 86.0), "not separable"),
        ((90.0,), (10.0,), "too few seeds"),
        ((), (90.0,), "not run yet"),
    ],
)
def test_a_claim_holds_where_seeds_agree(a, b, word):
    assert verdict(a, b).word == word


def test_seeds_are_compared_with_themselves():
    """What seeds have in common does not count as spread; a seed that one row lacks is left out."""
    found = verdict((10.0, 50.0, 90.0, 0.0), (9.0, 49.5, 89.0))
    assert (found.word, found.seeds) == ("holds", 3)
    assert found.difference == pytest.approx(5 / 6)
    assert found.spread == pytest.approx(2.92 * np.std([1, 0.5, 1], ddof=1) / np.sqrt(3))


@pytest.mark.parametrize(("paper", "name"), STUDIES)
def test_every_row_is_a_recipe_at_every_scale(paper, name):
    """No two rows are one training unless they are compared by different measures, or toys that are said to be one."""
    study = regress.studies_of(paper)[name]
    for scale in (SCALES["cpu"], SCALES["gpu"], SCALES["paper"]):
        keys = {}
        for row in study.rows_at(scale).values():
            one = grid.point(study, row, scale, 0)
            network(one.config)  # refuses fields that have no effect
            alike = (row.args if row.toy is None or not scale.size else row.toy, row.overrides if scale.size else ())
            assert keys.setdefault(one.key, alike) == alike
            assert one.config.model.get("image_size", one.config.data.image_size) == one.config.data.image_size
    rows = study.rows_at(SCALES["paper"]).values()
    assert len({(row.args, row.measure) for row in rows}) == len(rows)
    assert {row for claim in study.claims for row in claim} <= study.rows.keys()
    args = {arg for args in sweep(study.recipe).values() for arg in args}
    assert any(arg.startswith(study.dataset) for arg in args)


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
@pytest.mark.parametrize("paper_name", ["stm", "tefe", "tcm"])
def test_toys_that_train_longer_do_so_at_every_scale(paper_name, scale):
    study = regress.studies_of(paper_name)["longer"]
    for row in study.rows_at(SCALES[scale]).values():
        steps = grid.point(study, row, SCALES[scale], 0).config.train.steps
        assert steps == 3 * grid.point(study._replace(longer=1), row, SCALES[scale], 0).config.train.steps


def test_results_are_kept_and_found_again(tmp_path):
    study = regress.studies_of("stm")["modules"]
    one = grid.point(study, study.rows["STM"], SCALES["cpu"], 1)
    Results(tmp_path / "results.jsonl").add(one, {"pairs": 0.75})
    Results(tmp_path / "results.jsonl").add(one, {"top1": 0.5})
    found = Results(tmp_path / "results.jsonl")
    assert found.measures(one.key) == {"pairs": 0.75, "top1": 0.5}
    assert grid.values(study, SCALES["cpu"], found)["STM"] == {1: 75.0}
    for other in (
        grid.point(study, study.rows["STM"], SCALES["gpu"], 1),
        grid.point(study._replace(videos=study.videos._replace(name="others")), study.rows["STM"], SCALES["cpu"], 1),
        grid.point(study._replace(overrides=("--config.optim.lr=0.5",)), study.rows["STM"], SCALES["cpu"], 1),
    ):
        assert found.measures(other.key) is None
    assert "| STM | 49.2 | 75.0 | 1 |" in grid.text(study, SCALES["cpu"], found)


def test_what_another_process_wrote_stays(tmp_path):
    study = regress.studies_of("stm")["modules"]
    ours, theirs = (Results(tmp_path / "results.jsonl") for _ in range(2))
    points = [grid.point(study, study.rows["STM"], SCALES["cpu"], seed) for seed in range(3)]
    ours.add(points[0], {"pairs": 0.5})
    theirs.add(points[1], {"pairs": 0.75})
    ours.add(points[2], {"pairs": 1.0})
    assert grid.values(study, SCALES["cpu"], Results(tmp_path / "results.jsonl"))["STM"] == {0: 50.0, 1: 75.0, 2: 100.0}


def test_measures_of_two_kinds_of_machine_are_not_mixed(tmp_path, monkeypatch):
    study = regress.studies_of("stm")["modules"]
    results, one = Results(tmp_path / "results.jsonl"), grid.point(study, study.rows["STM"], SCALES["cpu"], 0)
    results.add(one, {"pairs": 0.5})
    monkeypatch.setattr(grid, "machine", lambda: "another")
    results.add(one, {"top1": 0.25})
    assert results.measures(one.key) == {"top1": 0.25}


def test_points_are_not_named_by_paths():
    """Weights and records that are moved leave the results where they are."""
    study = regress.studies_of("stm")["modules"]
    given = [("", ""), ("/data/ssv1", ""), ("/data/ssv1", "/weights/{model}"), ("gs://data/ssv1", "w/{model}.pth")]
    scales = [SCALES["paper"]._replace(records=records, init=init) for records, init in given]
    keys = [grid.point(study, study.rows["STM"], scale, 0).key for scale in scales]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    other = scales[2]._replace(init="/weights/kinetics")
    assert grid.point(study, study.rows["STM"], other, 0).key not in keys


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--figures", "--study", "one"], "leave --study and --seeds out"),
        (["--table", "--seeds", "2"], "leave --seeds and --out out"),
        (["--records", "r"], "of --scale paper"),
        (["--scale", "paper", "--study", "one"], "one is of toys alone"),
    ],
)
def test_options_without_effect_are_refused(argv, named, tmp_path, capsys):
    study = regress.studies_of("stm")["modules"]._replace(longer=3)
    with pytest.raises(SystemExit, match="2"):
        paper.main({"one": study}, tmp_path, argv=argv)
    assert named in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_claim_is_counted_once():
    """Of two studies that have the same two trainings, the first tests them."""
    tested = [(title, one.claim) for title, _, _, verdicts in regress.tests_of_claims() for one in verdicts]
    assert ("TCM-Net, Table VIII: parts", Claim("TCM", "TSM")) in tested
    assert not [title for title, claim in tested if claim == Claim("TSM + TCM", "TSM")]


def test_a_result_is_found_when_vidrec_has_a_new_field(monkeypatch):
    """What a recipe says counts, not the defaults that stand beside it."""
    study = regress.studies_of("stm")["modules"]
    one = grid.point(study, study.rows["STM"], SCALES["cpu"], 0)
    before, config = one.key, ConfigDict(one.config.to_dict())

    def more() -> ConfigDict:
        grown = base()
        grown.train.fresh = 0
        return grown

    monkeypatch.setattr("vidrec.config.base", more)
    config.train.fresh = 0
    assert one._replace(config=FrozenConfigDict(config)).key == before
    config.train.fresh = 1
    assert one._replace(config=FrozenConfigDict(config)).key != before


def test_a_study_is_run_once_and_comes_to_the_same_numbers_again(records, tmp_path, capsys):
    study = Study(
        "one row", "configs/stm.py", "ssv1", {"TSN": Row("network=tsn")}, (), measure="top1",
        overrides=("--config.train.steps=2", "--config.train.batch_size=8"),
        videos=Videos("squares", lambda out, size: records),
    )  # fmt: skip

    out = ("--out", str(tmp_path / "runs"))

    def command(*argv: str, given: tuple[str, ...] = ("--seeds", "1", *out)) -> tuple[int, str, str]:
        looks = (Look("confusion.png", "one", ("TSN",), "confusion"),)
        status = paper.main({"one": study}, tmp_path, looks, [*given, *argv])
        return status, *capsys.readouterr()

    status, table, told = command()
    assert status == 0
    assert "one row: TSN, seed 0" in told
    (kept,) = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert f"| TSN |  | {100 * kept['measures']['top1']:.1f} | 1 |" in table
    assert kept["machine"] == grid.machine()
    assert command() == (0, table, "")  # nothing is left to run
    status, told, _ = command("--again")
    assert (status, told.splitlines()[-1]) == (0, "1 points run again, 0 came to other numbers.")
    kept["measures"]["top1"] += 0.25
    (tmp_path / "results.jsonl").write_text(json.dumps(kept) + "\n")
    status, differing, _ = command("--again")
    assert status == 1
    assert differing.startswith(f"{kept['point']}: top1 was {kept['measures']['top1']}, now")
    assert command("--again", "--scale", "gpu")[0] == 1  # of which there are none
    (tmp_path / "results.jsonl").write_text(json.dumps({**kept, "machine": "another"}) + "\n")
    status, told, _ = command("--again")
    assert status == 1
    assert "0 points run again" in told
    assert "1 are of another kind of machine and were left" in told
    assert command("--table", given=())[:2] == (
        0,
        grid.text(study, SCALES["cpu"], Results(tmp_path / "results.jsonl")) + "\n",
    )
    assert command("--figures", given=out)[0] == 0
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 100
    assert [text.text for text in ET.parse(tmp_path / "rows.svg").iter(SVG + "text")].count("TSN") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("paper_name", "name", "row"), [("tcm", "tempo", "TCM"), ("stm", "online", "STM")])
def test_what_is_asked_of_a_run(paper_name, name, row, records, tmp_path):
    """A curve of shares, and what rows are compared by."""
    study = regress.studies_of(paper_name)[name]
    short = ("--config.train.steps=2", "--config.train.batch_size=8")
    study = study._replace(overrides=(*study.overrides, *short), videos=Videos("squares", lambda out, size: records))
    one = grid.point(study, study.rows[row], SCALES["cpu"], 0)
    measures = study.ask(grid.trained(study, one, SCALES["cpu"], tmp_path))
    curve = {key: value for key, value in measures.items() if key.startswith(f"{study.curve} ")}
    assert len(curve) >= 5
    assert all(0 <= value <= 1 for value in curve.values())
    if name == "tempo":
        others = [value for key, value in curve.items() if key != "stride 4"]
        assert measures["drop"] == pytest.approx(np.mean(others) - curve["stride 4"])
    else:
        assert measures["online"] == curve["seen 100"]


def test_marks_stand_where_their_values_are():
    groups = {
        "first": [Mark("low", -2.0, 1.0, note="reversed"), Mark("high", 6.0, 0.5, note="holds")],
        "none": [],
        "seeds": [Mark("mean of two", 1.0, points=(0.0, 2.0))],
    }
    root = ET.fromstring(figures.as_file(figures.marks_svg(groups, title="t", x_label="points", level=0.0)))
    texts = [text.text for text in root.iter(SVG + "text")]
    assert {"first", "low", "high", "reversed", "holds", "seeds", "mean of two"} <= set(texts)
    assert "none" not in texts
    low, high, *points = (float(circle.attrib["cx"]) for circle in root.iter(SVG + "circle"))
    assert low < points[0] < points[1] < high
    assert (points[1] - points[0]) / (high - low) == pytest.approx(2 / 8, abs=0.01)
    assert root.find(SVG + "style") is not None


def test_a_curve_is_the_mean_of_the_seeds(tmp_path):
    study = regress.studies_of("tcm")["tempo"]
    results = Results(tmp_path / "results.jsonl")
    for seed, top1 in enumerate((0.2, 0.4)):
        one = grid.point(study, study.rows["TCM"], SCALES["cpu"], seed)
        results.add(one, {"stride 1": top1, "stride 2": 1.0, "all strides": 0.5})
    assert figures.curves(study, SCALES["cpu"], results) == {"TSM": [], "TCM": [(1.0, pytest.approx(0.3)), (2.0, 1.0)]}


@pytest.mark.parametrize(("paper_name", "name"), STUDIES)
def test_readmes_have_the_tables_of_the_results(paper_name, name):
    """What a paper's README.md says is what its results.jsonl holds."""
    folder, study = regress.folder_of(paper_name), regress.studies_of(paper_name)[name]
    table = grid.text(study, SCALES["cpu"], Results(folder / "results.jsonl"))
    assert table in (folder / "README.md").read_text()


def test_pictures_that_readmes_show_are_there():
    """And no others."""
    for paper_name in regress.PAPERS:
        folder = regress.folder_of(paper_name)
        told = (folder / "README.md").read_text()
        for picture in (*folder.glob("*.png"), *folder.glob("*.svg")):
            assert f"({picture.name})" in told
        for shown in told.split("](")[1:]:
            assert (folder / shown.split(")")[0].split("#")[0]).exists()
