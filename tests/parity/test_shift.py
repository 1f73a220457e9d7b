"""The temporal shift against TSM's and its descendants' own."""

import numpy as np
import pytest

from tests.parity.goldens import as_clips, load
from vidrec.ops.shift import temporal_shift


@pytest.mark.parametrize("case", "abcd", ids=lambda case: f"temporal_shift-{case}")
def test_temporal_shift(case):
    golden = load("temporal_shift")
    frames = int(golden[f"{case}_T"])
    shifted = temporal_shift(as_clips(golden[f"{case}_x"], frames), int(golden[f"{case}_div"]))
    assert np.array_equal(shifted, as_clips(golden[f"{case}_out"], frames))


@pytest.mark.parametrize("fold_div", [4, 8], ids=lambda fold_div: f"tsm_shift-{fold_div}")
def test_tsm_shift(fold_div):
    golden = load("tsm_shift")
    assert np.array_equal(temporal_shift(as_clips(golden["x"], 4), fold_div), as_clips(golden[f"out_div{fold_div}"], 4))
