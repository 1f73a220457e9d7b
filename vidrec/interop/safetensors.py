"""Weights as a .safetensors file: torch's names and axes, the class list and the configuration in its metadata."""

import io
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidrec import config as configuration
from vidrec.errors import VidrecError
from vidrec.eval.predict import Recognizer
from vidrec.interop.reading import read_safetensors
from vidrec.interop.torch import by_path, convert, to_torch


def weights_file(recognizer: Recognizer) -> bytes:
    """The weights and running statistics of a network; `vidrec import` makes a checkpoint of the file again.

    Raises:
      VidrecError: the file would not give the same weights back.
    """
    metadata = {
        "format": "pt",  # what readers of such files call torch's axes
        "classes": json.dumps(recognizer.classes, ensure_ascii=False),
        "config": json.dumps(configuration.to_dict(recognizer.config)),
        "step": str(recognizer.step),
    }
    data = dump(to_torch(recognizer.model, recognizer.variables), metadata)
    _check(recognizer, data)
    return data


def dump(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a .safetensors file of float32 tensors."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    parts, end = [], 0
    for name, tensor in tensors.items():
        parts.append(np.ascontiguousarray(tensor, "<f4").tobytes())
        begin, end = end, end + len(parts[-1])
        header[name] = {"dtype": "F32", "shape": list(np.shape(tensor)), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def _check(recognizer: Recognizer, data: bytes) -> None:
    model, size = recognizer.model, recognizer.config.data.image_size
    back, _ = convert(model, read_safetensors(io.BytesIO(data)), image_size=size, num_frames=model.num_frames)
    have, want = by_path(back), by_path(dict(recognizer.variables))
    for path in want.keys() | have.keys():
        if path not in have or path not in want or not np.array_equal(have[path], np.asarray(want[path], np.float32)):
            raise VidrecError(f"the safetensors file does not give {path} back as it is; nothing was written")
