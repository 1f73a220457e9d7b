"""A file with sound and no picture."""

from pathlib import Path

import av
import numpy as np


def write_sound(path: Path) -> None:
    """Writes an eighth of a second of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
