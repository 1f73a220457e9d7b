"""What is certain holds: networks that model time tell mirrored videos apart, that which averages frames does not."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments import regress
from vidrec.cli import main
from vidrec.demo import headline, table


def test_networks_are_named_as_their_papers_do():
    results = {"tcm": {"top1": 0.9, "pair_accuracy": 0.95}, "direcformer": {"top1": 0.8, "pair_accuracy": 0.85}}
    _, first, second, _ = table({"videos": 1, **results, "seconds": 1.0, "report": "r.html"}).splitlines()
    assert first.startswith("TCM-Net ")
    assert second.startswith("DirecFormer ")
    assert "TCM-Net, which sees where things went, by correlation, 95%; DirecFormer, which" in headline(results)


@pytest.mark.slow
def test_the_papers_networks_see_time_and_the_demo_shows_it(tmp_path, capsys):
    claims = regress.certain(tmp_path, seeds=1)
    assert [claim.measured for claim in claims if claim.holds != "holds"] == []
    assert len(claims) == len(regress.PAPERS) + 1
    demo = ["demo", "--workdir", str(tmp_path / "anew" / "demo")]  # with the networks that were just trained
    assert main([*demo, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
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
    assert main(demo) == 0  # finished: everything is used again
    head, tsn, stm, more = capsys.readouterr().out.splitlines()
    assert head.split() == ["network", "sees", "top-1", "within", "mirrored", "pairs"]
    assert tsn.endswith(f" {result['tsn']['pair_accuracy']:.1%}")
    assert stm.startswith("STM      motion between frames")
    assert more.startswith("2560 videos")
    assert more.endswith(result["report"])
