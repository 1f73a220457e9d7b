import json

import pytest

from vidrec.cli import main
from vidrec.inspect import published
from vidrec.inspect.published import ROWS, TCM_ADDS, compare, table_text
from vidrec.models.registry import create_model, list_models

SMALL = tuple(row for row in ROWS if row.table in ("TCM: TSM-R18", "STM-18", "TCM: TCM-R18"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.table)
def test_every_row_can_be_made(row):
    create_model(row.model, **row.fields)


def test_every_network_has_a_row_and_no_two_rows_are_the_same():
    assert {row.model for row in ROWS} == set(list_models())
    assert len({row.table for row in ROWS}) == len(ROWS)
    settings = [(row.model, row.fields, row.image_size, row.stage) for row in ROWS]
    assert all(setting not in settings[:i] for i, setting in enumerate(settings))


def test_rows_stand_beside_the_paper_s():
    table = {row["row"]: row for row in compare(SMALL)}
    tsm = table["TCM: TSM-R18"]
    assert (tsm["params"], tsm["gmacs"], tsm["paper_mparams"], tsm["paper_gflops"]) == (11_265_774, 14.509, 11.3, 14.5)
    assert table["STM-18"]["gmacs_with_norms"] == 14.674
    *lines, first, second = table_text(list(table.values())).splitlines()
    head, tsm_line, stm_line, tcm_line = lines
    assert len(head) == len(tsm_line) == len(tcm_line) > len(stm_line)  # which has no note
    assert "8x224x224" in tsm_line
    assert first.startswith("1 the paper's parameters")
    assert second == f"2 {TCM_ADDS}"
    assert (tsm_line[-1], tcm_line[-1]) == ("1", "2")


def test_a_row_of_a_part():
    (row,) = compare([row for row in ROWS if row.stage == "ett"])
    assert row["params"] == 4 * 2048 * 256 + 3 * 256 + 2048 + 3 * 16 * 256 * 49 + 1
    assert row["gmacs"] == round((4 * 2048 * 256 + 2 * 16 * 256) * 16 * 49 / 1e9, 3)


@pytest.mark.slow
def test_what_differs_from_the_paper_has_a_note():
    rows = [row for row in ROWS if row.params or row.gflops]
    for row, ours in zip(rows, compare(rows), strict=True):
        params = abs(ours["params"] / 1e6 / (row.params or ours["params"] / 1e6) - 1)
        counts = (ours["gmacs"], ours["gmacs_with_norms"])
        if params > 0.015 or (row.gflops and min(abs(count / row.gflops - 1) for count in counts) > 0.015):
            assert row.note, row.table
    assert not [row.table for row in ROWS if row.note and row not in rows]


def test_the_command_prints_them(monkeypatch, capsys):
    monkeypatch.setattr(published, "ROWS", SMALL)
    assert main(["summary", "--all", "--json"]) == 0
    assert [row["row"] for row in json.loads(capsys.readouterr().out)] == [row.table for row in SMALL]
    assert main(["summary", "--all", "--config", "configs/demo.py:stm"]) == 2
    assert main(["summary"]) == 2
    assert capsys.readouterr().err.count("give either --config FILE[:arg] or --all") == 2
