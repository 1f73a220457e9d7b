"""Each paper's `:toy` recipe learns from the toy videos what its network is for, by the commands of the headers."""

import pytest

from vidrec.cli import main
from vidrec.data.toy import toy_pairs
from vidrec.eval.predict import load
from vidrec.inspect.results import evaluate_recognizer


def vidrec(*arguments):
    """Runs a command line, which must succeed."""
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="session")
def toy_records(tmp_path_factory):
    """The toy videos as records."""
    toy = tmp_path_factory.mktemp("toy") / "toy"
    records = toy.parent / "records"
    vidrec("toy", "--out", toy)
    source = ("--dataset", "list", "--root", toy, "--annotations", toy / "annotations.csv")
    vidrec("convert", *source, "--out", records, "--short-side", 0)
    return records


@pytest.mark.slow
@pytest.mark.parametrize(
    ("paper", "least"),
    [("tcm", 0.90), ("direcformer", 0.88)],  # TSN and STM: the demo's own test; `vidrec demo --all`: all six
)
def test_mirrored_videos_are_told_apart(paper, least, toy_records, tmp_path):
    records = f"--config.data.records={toy_records}"
    vidrec("train", "--config", f"configs/{paper}.py:toy", "--workdir", tmp_path / paper, records)
    recognizer = load(tmp_path / paper)
    evaluation = evaluate_recognizer(recognizer, recognizer.config)
    assert evaluation.pair_accuracy(toy_pairs()) >= least
