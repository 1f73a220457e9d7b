"""Files that appear whole or not at all."""

import json

import pytest

from vidrec.files import write_json


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"top1": 0.5})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"top1": float("nan")})
    assert json.loads(path.read_text()) == {"top1": 0.5}
    assert list(tmp_path.iterdir()) == [path]
