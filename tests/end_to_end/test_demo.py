"""The demo does what the README says: the averaging network is at chance within mirrored pairs, the other is not."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vidrec.cli import main


@pytest.mark.slow
def test_the_demo_shows_the_point(tmp_path, capsys):
    assert main(["demo", "--workdir", str(tmp_path / "demo")]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["videos"] == 2560
    assert 0.45 <= result["tsn"]["pair_accuracy"] <= 0.55
    assert result["stm"]["pair_accuracy"] >= 0.9
    assert result["stm"]["top1"] >= 0.9
    page = Path(result["report"]).read_text()
    HTMLParser().feed(page)
    for network in ("TSN", "STM"):
        assert page.count(f'alt="Confusion matrix of {network}') == 1
        assert page.count(f' as {network} sees it" loading') == 8  # with what it looks at
    assert page.count('<article class="card clip">') == 8
    for heading in ("Results", "Training", "What is taken for what", "Each class", "Clips", "Runs"):
        assert f"<h2>{heading}</h2>" in page
    assert main(["demo", "--workdir", str(tmp_path / "demo")]) == 0  # finished: everything is used again
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {**again, "seconds": 0} == {**result, "seconds": 0}
