import json

import pytest

from vidrec.cli import main
from vidrec.inspect import published
from vidrec.inspect.published import ROWS, compare, table_text
from vidrec.models.registry import create_model, list_models

SMALL = tuple(row for row in ROWS if row.table in ("TCM: TSM-R18", "STM-18", "TCM-R18 after res5"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.table)
def test_every_row_can_be_made(row):
    create_model(row.model, **row.fields)


def test_every_network_has_a_row_and_no_two_rows_are_the_same():
    assert {row.model for row in ROWS} == set(list_models())
    assert len({row.table for row in ROWS}) == len(ROWS)
    settings = [(row.model, row.fields, row.image_size) for row in ROWS]
    assert all(setting not in settings[:i] for i, setting in enumerate(settings))


def test_rows_stand_beside_the_paper_s():
    table = {row["row"]: row for row in compare(SMALL)}
    tsm = table["TCM: TSM-R18"]
    assert (tsm["params"], tsm["gmacs"], tsm["paper_mparams"], tsm["paper_gflops"]) == (11_265_774, 14.509, 11.3, 14.5)
    assert table["STM-18"]["gmacs_with_norms"] == 14.674
    lines = table_text(list(table.values())).splitlines()
    assert len(lines) == 1 + len(SMALL)
    assert len({len(line) for line in lines}) == 1
    assert "8x224x224" in lines[1]


def test_the_command_prints_them(monkeypatch, capsys):
    monkeypatch.setattr(published, "ROWS", SMALL)
    assert main(["summary", "--all", "--json"]) == 0
    assert [row["row"] for row in json.loads(capsys.readouterr().out)] == [row.table for row in SMALL]
    assert main(["summary", "--all", "--config", "configs/demo.py:stm"]) == 2
    assert main(["summary"]) == 2
    assert capsys.readouterr().err.count("give either --config FILE[:arg] or --all") == 2
