"""The papers' tables at toy scale: what is run, what is kept, and when a claim is said to hold."""

import functools
import json
import xml.etree.ElementTree as ET

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict
from PIL import Image

from experiments import claims, figures, grid, paper, regress, results
from experiments.figures import Look, Mark
from experiments.grid import SCALES, Claim, Row, Study, Videos
from experiments.results import Results
from tests.configs.recipes import network
from vidrec.config import base, fingerprint
from vidrec.errors import UsageError, VidrecError
from vidrec.eval.predict import load
from vidrec.files import alone
from vidrec.inspect.prepared import open_run
from vidrec.interop.torch import to_torch
from vidrec.launch.sweep import points
from vidrec.train.checkpoint import Checkpoints
from vidrec.train.state import initial_variables

SVG = "{http://www.w3.org/2000/svg}"
STUDIES = [(paper, name) for paper in regress.PAPERS for name in regress.studies_of(paper)]


def verdict(a, b):
    return claims.verdict(Claim("a", "b"), "pairs", dict(enumerate(a)), dict(enumerate(b)), least=100 * 5 / 896)


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        ((90.0, 91.0, 92.0), (80.0, 81.5, 81.0), "holds"),
        ((80.0, 81.5, 81.0), (90.0, 91.0, 92.0), "reversed"),
        ((90.0, 80.0, 92.0), (85.0, 84.0, 86.0), "not separable"),
        ((90.55, 90.55, 90.55), (90.0, 90.0, 90.0), "not separable"),  # fewer than five videos, always the same
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
    assert {row for claim in study.claims for row in claim[:2]} <= study.rows.keys()
    if not study.ours:
        assert {fingerprint(grid.point(study, row, SCALES["paper"], 0).config) for row in rows} <= swept(study.recipe)


@functools.cache
def swept(recipe):
    return {one.fingerprint for one in points(recipe)}


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
@pytest.mark.parametrize("paper_name", ["stm", "tefe", "tcm"])
def test_toys_that_train_longer_do_so_at_every_scale(paper_name, scale):
    study = regress.studies_of(paper_name)["longer"]
    for row in study.rows_at(SCALES[scale]).values():
        steps = grid.point(study, row, SCALES[scale], 0).config.train.steps
        assert steps == 3 * grid.point(study._replace(longer=1), row, SCALES[scale], 0).config.train.steps


STM = regress.studies_of("stm")["modules"]
STM_POINTS = [grid.point(STM, STM.rows["STM"], SCALES["cpu"], seed) for seed in range(3)]


def test_results_are_kept_and_found_again(tmp_path):
    one = STM_POINTS[1]
    Results(tmp_path / "results.jsonl").add(one.key, {"pairs": 0.75}, 60)
    Results(tmp_path / "results.jsonl").add(one.key, {"top1": 0.5}, 30)
    found = Results(tmp_path / "results.jsonl")
    assert found.measures(one.key) == {"pairs": 0.75, "top1": 0.5}
    assert claims.values(STM, SCALES["cpu"], found)["STM"] == {1: 75.0}
    assert claims.values(STM, SCALES["cpu"], found, "top1")["STM"] == {1: 50.0}
    for other in (
        grid.point(STM, STM.rows["STM"], SCALES["gpu"], 1),
        grid.point(STM._replace(videos=STM.videos._replace(name="others")), STM.rows["STM"], SCALES["cpu"], 1),
        grid.point(STM._replace(overrides=("--config.optim.lr=0.5",)), STM.rows["STM"], SCALES["cpu"], 1),
    ):
        assert found.measures(other.key) is None
    table = claims.text(STM, SCALES["cpu"], found)
    assert "| STM | 49.2 | 75.0 | 1 |" in table
    assert table.endswith(f"1 training in 2 minutes ({results.machine()}, JAX {jax.__version__}).\n")


def test_what_another_process_wrote_stays(tmp_path):
    ours, theirs = (Results(tmp_path / "results.jsonl") for _ in range(2))
    ours.add(STM_POINTS[0].key, {"pairs": 0.5}, 1)
    theirs.add(STM_POINTS[1].key, {"pairs": 0.75}, 1)
    assert not ours.lacks(STM_POINTS[1].key, "pairs", {})
    ours.add(STM_POINTS[2].key, {"pairs": 1.0}, 1)
    found = claims.values(STM, SCALES["cpu"], Results(tmp_path / "results.jsonl"))
    assert found["STM"] == {0: 50.0, 1: 75.0, 2: 100.0}


@pytest.mark.parametrize("elsewhere", [{"machine": "another"}, {"jax": "0.0"}])
def test_measures_of_two_kinds_of_machine_are_not_mixed(elsewhere, tmp_path, monkeypatch):
    """Nor those of two versions of JAX."""
    found, one, here = Results(tmp_path / "results.jsonl"), STM_POINTS[0], results.of_here()
    found.add(one.key, {"pairs": 0.5}, 1)
    monkeypatch.setattr(results, "of_here", lambda: here | elsewhere)
    found.add(one.key, {"top1": 0.25}, 1)
    assert found.measures(one.key) == {"top1": 0.25}
    found.add(STM_POINTS[1].key, {"top1": 0.25}, 1)
    monkeypatch.undo()
    found.add(STM_POINTS[2].key, {"top1": 0.25}, 1)
    assert found.cost(one.key for one in STM_POINTS).count(" minutes (") == 2  # the reader is told


def test_other_records_and_weights_of_the_same_name_are_refused(tmp_path, records):
    def scale(weights: bytes) -> grid.Scale:
        (tmp_path / "weights").mkdir(exist_ok=True)
        (tmp_path / "weights" / "values").write_bytes(weights)
        grid.digest_of.cache_clear()
        return SCALES["paper"]._replace(records=str(records), init=str(tmp_path / "weights"))

    found, chosen = Results(tmp_path / "results.jsonl"), scale(b"1")
    one = grid.point(STM, STM.rows["STM"], chosen, 0)
    made_of = grid.digests(one, chosen)
    assert made_of.keys() == {"records", "init"}
    found.add(one.key, {"top1": 0.5}, 1, **made_of)
    assert not found.lacks(one.key, "top1", grid.digests(one, chosen))
    with pytest.raises(VidrecError, match="made of other init of the same name: give them another name"):
        found.lacks(one.key, "top1", grid.digests(one, scale(b"2")))


@pytest.mark.slow
def test_each_row_of_a_paper_starts_from_what_its_network_has_of_a_file(tmp_path, records):
    rows = {"TSN": Row("network=tsn"), "CMM alone": Row("modules=cmm"), "STM": Row("")}
    study = Study("modules", "configs/stm.py", "toy", rows, ())
    scale = SCALES["paper"]._replace(records=str(records), init=str(tmp_path / "{model}.npz"), drawn=("*/c?*m", "fc"))
    with pytest.raises(UsageError, match=r"TSN is to start from .*tsn_resnet18.npz, which is not there"):
        grid.check_weights([study], scale)
    model = network(grid.point(study, rows["TSN"], scale, 0).config)
    given = to_torch(model, initial_variables(model, jax.random.key(1), 32))
    for name in ("tsn", "stm"):
        np.savez(tmp_path / f"{name}_resnet18.npz", **given)
    grid.check_weights([study], scale)
    for row in rows.values():
        one = grid.point(study, row, scale, 0)
        config = ConfigDict(one.config.to_dict())
        config.train.update(steps=1, batch_size=8)
        folder = grid.trained(study, one._replace(config=FrozenConfigDict(config)), scale, tmp_path / "out")
        with Checkpoints(folder / "checkpoints") as checkpoints:
            assert checkpoints.latest() == 1
        start = load(grid.weights_of(one, scale, tmp_path / "out"))
        np.testing.assert_array_equal(to_torch(start.model, start.variables)["conv1.weight"], given["conv1.weight"])


def test_a_field_of_all_recipes_of_a_paper_makes_other_points():
    scale = SCALES["paper"]._replace(overrides=("--config.train.batch_size=16",))
    for name, row in STM.rows_at(scale).items():
        one = grid.point(STM, row, scale, 0)
        assert one.config.train.batch_size == 16, name
        assert one.key != grid.point(STM, row, SCALES["paper"], 0).key


def test_points_are_not_named_by_paths():
    """Weights and records that are moved leave the results where they are."""
    given = [("", ""), ("/data/ssv1", ""), ("/data/ssv1", "/weights/{model}"), ("gs://data/ssv1", "w/{model}.pth")]
    scales = [SCALES["paper"]._replace(records=records, init=init) for records, init in given]
    keys = [grid.point(STM, STM.rows["STM"], scale, 0).key for scale in scales]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    other = scales[2]._replace(init="/weights/kinetics")
    assert grid.point(STM, STM.rows["STM"], other, 0).key not in keys


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--figures", "--study", "one"], "leave --study and --seeds out"),
        (["--table", "--seeds", "2"], "leave --seeds and --out out"),
        (["--records", "r"], "of --scale paper"),
        (["--config.train.steps=5"], "of --scale paper"),
        (["--scale", "paper", "--steps=5"], "unknown argument --steps=5"),
        (["--results", "runs/mine"], "must end in .jsonl"),
        (["--scale", "gpu", "--figures"], "give --results FILE elsewhere"),
        (["--scale", "paper", "--config.seed=3"], "--config.seed is said by --seeds"),
        (["--scale", "paper", "--study", "one"], "one is of toys alone"),
    ],
)
def test_options_without_effect_are_refused(argv, named, tmp_path, capsys):
    study = STM._replace(longer=3)
    with pytest.raises(SystemExit, match="2"):
        paper.main({"one": study}, tmp_path, argv=argv)
    assert named in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_claim_is_counted_once():
    """Of two studies that have the same two trainings, the first tests them."""
    tested = [(study.title, one.claim) for _, study, found in regress.tests_of_claims() for one in found]
    assert ("Table VIII: parts", Claim("TCM", "TSM")) in tested
    assert not [title for title, claim in tested if claim == Claim("TSM + TCM", "TSM")]


def test_a_result_is_found_when_vidrec_has_a_new_field(monkeypatch):
    """What a recipe says counts, not the defaults that stand beside it."""
    one = grid.point(STM, STM.rows["STM"], SCALES["cpu"], 0)
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
        status = paper.main({"one": study}, tmp_path, looks, argv=[*given, *argv])
        return status, *capsys.readouterr()

    status, table, told = command()
    assert status == 0
    assert "one row: TSN, seed 0" in told
    (kept,) = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert f"| TSN |  | {100 * kept['measures']['top1']:.1f} | 1 |" in table
    assert kept["machine"] == results.machine()
    status, same, told = command()
    assert (status, same) == (0, table)
    assert told.startswith(f"nothing to run, all stands in {tmp_path / 'results.jsonl'}: --again runs it once more")
    status, told, _ = command("--again")
    assert (status, told.splitlines()[-1]) == (0, "points run again: 1, of which 0 came to other numbers.")
    kept["measures"]["top1"] += 0.25
    (tmp_path / "results.jsonl").write_text(json.dumps(kept) + "\n")
    status, differing, _ = command("--again")
    assert status == 1
    assert differing.startswith(f"{kept['point']}: top1 was {kept['measures']['top1']}, now")
    status, _, told = command("--again", "--scale", "gpu")
    assert (status, told) == (1, "vidrec: there are no results to run again: leave --again out\n")
    (tmp_path / "results.jsonl").write_text(json.dumps({**kept, "machine": "another"}) + "\n")
    status, told, _ = command("--again")
    assert status == 1
    assert "points run again: 0" in told
    assert "1 are of another kind of machine or JAX and were left" in told
    assert command("--table", given=())[:2] == (
        0,
        claims.text(study, SCALES["cpu"], Results(tmp_path / "results.jsonl")) + "\n",
    )
    assert command("--figures", given=out)[0] == 0
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 100
    assert [text.text for text in ET.parse(tmp_path / "rows.svg").iter(SVG + "text")].count("TSN") == 1


def test_what_another_process_is_at_is_left_to_it(records, tmp_path, capsys):
    study = STM._replace(
        rows={"TSN": STM.rows["TSN"]}, claims=(), overrides=("--config.train.batch_size=8",),
        videos=Videos("squares", lambda out, size: records),
    )  # fmt: skip
    one = grid.point(study, study.rows["TSN"], SCALES["cpu"], 0)
    found = Results(tmp_path / "results.jsonl")
    with alone(tmp_path / "out" / "runs" / one.key, wait=False):
        grid.run(study, SCALES["cpu"], [0], found, tmp_path / "out")
    assert found.measures(one.key) is None
    told = capsys.readouterr().err
    assert "another process is at it" in told
    assert "trainings left to another process: 1" in told


def test_trainings_anew_are_of_one_process_at_a_time(tmp_path, capsys):
    """They begin by deleting what was trained before."""
    (tmp_path / "regress" / "anew" / "demo").mkdir(parents=True)
    with alone(tmp_path / "regress", wait=False):
        assert regress.main(["--out", str(tmp_path)]) == 1
    assert "another process trains in" in capsys.readouterr().err
    assert (tmp_path / "regress" / "anew" / "demo").exists()
    with alone(tmp_path / "again", wait=False):
        given = ["--again", "--out", str(tmp_path), "--results", str(tmp_path / "none.jsonl")]
        assert paper.main({"modules": STM}, tmp_path, argv=given) == 1
    assert "another process runs points again" in capsys.readouterr().err


def test_lines_of_other_results_stay_as_they_are(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    results.add("first", {"top1": 0.5}, 1, recipe="r", seed=0)
    before = (tmp_path / "results.jsonl").read_text()
    Results(tmp_path / "results.jsonl").add("second", {"top1": 0.6}, 1, recipe="r", seed=1)
    assert (tmp_path / "results.jsonl").read_text().startswith(before)


@pytest.mark.parametrize("line", ['{"point": "a", "measu', "", "[]", '{"measures": {}}', '{"point": "a"}'])
def test_a_damaged_result_is_told_with_its_line(line, tmp_path, capsys):
    Results(tmp_path / "results.jsonl").add("first", {"top1": 0.5}, 1)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write(f"{line}\n")
    assert paper.main({"modules": STM}, tmp_path, argv=["--table"]) == 1
    assert f"{tmp_path / 'results.jsonl'}, line 2 is no result" in capsys.readouterr().err


def test_weights_are_named_by_words_in_any_braces():
    scale = SCALES["paper"]._replace(init="/w/{model}-{other.npz")
    assert grid.point(STM, STM.rows["STM"], scale, 0).config.train.init == "/w/stm_resnet50-{other.npz"


def test_rows_that_toys_lack_stand_in_the_table(tmp_path):
    study = regress.studies_of("tefe")["placement"]
    table = claims.text(study, SCALES["cpu"], Results(tmp_path / "results.jsonl"))
    assert "| half and half | 48.7 | - (of the paper's networks alone) | |" in table
    assert "| TE in all | 46.7 | - | 0 |" in table


@pytest.mark.parametrize("holds", [True, False])
def test_regress_fails_where_what_is_certain_does_not_hold(holds, monkeypatch, tmp_path, capsys):
    """Trainings are those of another test."""
    certain = regress.Line("one", "90 %", "95 %", 1, regress.word(holds), certain=True)
    monkeypatch.setattr(regress, "certain", lambda out, seeds: [certain])
    assert regress.main(["--out", str(tmp_path), "--json"]) == (0 if holds else 1)
    first, *found_out = json.loads(capsys.readouterr().out)
    assert first == certain._asdict()
    tested = [one for _, _, tested in regress.tests_of_claims() for one in tested]
    assert [(one["seeds"], one["holds"]) for one in found_out] == [(one.seeds, one.word) for one in tested]
    assert regress.main(["--out", str(tmp_path)]) == (0 if holds else 1)
    head, _, row, *others = capsys.readouterr().out.splitlines()
    assert head.startswith("| claim | stated beforehand |")
    assert row == f"| one | 90 % | 95 % | 1 | {regress.word(holds)} |"
    assert len(others) == len(found_out) + 2
    papers = [one for one in found_out if not one["ours"] and one["seeds"] > 1]
    assert f"The papers' claims: of {len(papers)} tested" in others[-1]
    assert f"chance alone would give about {len(papers) / 10:.0f} of" in others[-1]


def test_summary_and_figure_take_no_other_option(capsys):
    with pytest.raises(SystemExit, match="2"):
        regress.main(["--summary", "--json"])
    assert "leave the other options out" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("paper_name", "name", "row"), [("tcm", "tempo", "TCM"), ("stm", "online", "STM, Twins")])
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
        length = np.median(open_run(tmp_path / "runs" / one.key).source.num_frames)
        others = [curve[f"stride {stride}"] for stride in (2, 3, 5, 6, 7, 8) if 3 * stride < length]
        assert measures["change"] == pytest.approx(np.mean(others) - curve["stride 4"])
    else:
        assert measures["online"] == curve["seen 100"]


def test_marks_stand_where_their_values_are():
    groups = {
        "first": [Mark("low", -2.0, 1.0, note="reversed"), Mark("high", 6.0, 0.5, note="holds")],
        "none": [],
        "seeds": [Mark("mean of two", 1.0, points=(0.0, 2.0))],
    }
    root = ET.fromstring(figures.as_file(figures.marks_svg({"points": groups}, title="t", level=0.0)))
    texts = [text.text for text in root.iter(SVG + "text")]
    assert {"first", "low", "high", "reversed", "holds", "seeds", "mean of two"} <= set(texts)
    assert "none" not in texts
    low, high, *points = (float(circle.attrib["cx"]) for circle in root.iter(SVG + "circle"))
    assert low < points[0] < points[1] < high
    assert (points[1] - points[0]) / (high - low) == pytest.approx(2 / 8, abs=0.01)
    assert root.find(SVG + "style") is not None


def test_charts_have_an_axis_each_and_room_for_every_name():
    long = "a name of a row that is as long as the words of both of its modules together"
    charts = {
        "pairs, %": {"one": [Mark(long, 90.0), Mark("b", 50.0)]},
        "change, %": {"two": [Mark("c", 1.0), Mark("d", 2.0)]},
    }
    root = ET.fromstring(figures.as_file(figures.marks_svg(charts, title="t")))
    (start,) = (float(text.attrib["x"]) for text in root.iter(SVG + "text") if text.text == long)
    assert start >= 7 * len(long)  # it ends there
    high, low, *second = (float(circle.attrib["cx"]) for circle in root.iter(SVG + "circle"))
    assert (min(second), max(second)) == (pytest.approx(low, abs=30), pytest.approx(high, abs=80))


def test_a_curve_is_the_mean_of_the_seeds(tmp_path):
    study = regress.studies_of("tcm")["tempo"]
    found = Results(tmp_path / "results.jsonl")
    for seed, top1 in enumerate((0.2, 0.4)):
        one = grid.point(study, study.rows["TCM"], SCALES["cpu"], seed)
        found.add(one.key, {"stride 1": top1, "stride 2": 1.0, "all strides": 0.5}, 1)
    assert figures.curves(study, SCALES["cpu"], found) == {"TSM": [], "TCM": [(1.0, pytest.approx(0.3)), (2.0, 1.0)]}


@pytest.mark.parametrize(("paper_name", "name"), STUDIES)
def test_readmes_have_the_tables_of_the_results(paper_name, name):
    """What a paper's README.md says is what its results.jsonl holds."""
    folder, study = regress.folder_of(paper_name), regress.studies_of(paper_name)[name]
    table = claims.text(study, SCALES["cpu"], Results(folder / "results.jsonl"))
    assert table in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", regress.PAPERS)
def test_pictures_are_of_the_results(name):
    """No two curves are of one training."""
    folder, studies = regress.folder_of(name), regress.studies_of(name)
    found = Results(folder / "results.jsonl")
    for file, picture in figures.drawings(studies, SCALES["cpu"], found).items():
        assert (folder / file).read_text() == figures.as_file(picture)
    for study in studies.values():
        drawn = [
            grid.point(study, study.rows[row], SCALES["cpu"], 0).key
            for row in figures.curves(study, SCALES["cpu"], found)
        ]
        assert len(set(drawn)) == len(drawn)


def test_what_is_told_of_all_claims_is_of_the_results():
    experiments = regress.folder_of("stm").parent
    for file, picture in regress.figures().items():
        assert (experiments / file).read_text() == figures.as_file(picture)
    assert regress.summary() in (experiments.parent / "README.md").read_text()


def test_pictures_that_readmes_show_are_there():
    """And no others."""
    for paper_name in regress.PAPERS:
        folder = regress.folder_of(paper_name)
        told = (folder / "README.md").read_text()
        for picture in (*folder.glob("*.png"), *folder.glob("*.svg")):
            assert f"({picture.name})" in told
        for shown in told.split("](")[1:]:
            assert (folder / shown.split(")")[0].split("#")[0]).exists()
