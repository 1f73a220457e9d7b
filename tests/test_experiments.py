"""The papers' tables at toy scale: what is run, what is kept, and when a claim is said to hold."""

import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from experiments import grid, regress
from experiments.grid import SCALES, Claim, Results, Row, Study
from tests.configs.recipes import network
from vidrec.config import base, sweep

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
        ((), (), "too few seeds"),
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
def test_every_row_is_a_recipe_at_both_ends(paper, name):
    """Rows differ from each other, as toys and in the paper's recipe; claims are of rows that are there."""
    study = regress.studies_of(paper)[name]
    for scale in (SCALES["cpu"], SCALES["gpu"], SCALES["paper"]):
        found = [grid.point(study, row, scale, 0) for row in study.rows.values()]
        keys = [one.key for one in found]
        for one in found:
            network(one.config)  # refuses fields that have no effect
        rows = {(row.args, row.overrides if scale.size else ()) for row in study.rows.values()}
        assert len(set(keys)) == len(rows)
    assert {row for claim in study.claims for row in claim} <= study.rows.keys()
    args = {arg for args in sweep(study.recipe).values() for arg in args}
    assert any(arg.startswith(study.dataset) for arg in args)


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
