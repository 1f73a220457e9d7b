"""Weights out of a file, whatever wrote it: .pth, .pt, .pth.tar (torch), .safetensors, .npz."""

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import ml_dtypes
import numpy as np

from vidrec.errors import VidrecError
from vidrec.interop.pickles import read_legacy, read_zip

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net")  # where training scripts put the weights

_SAFETENSORS_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "BOOL": np.bool_,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8,
}  # fmt: skip


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a weights file by name, in the type they are stored in. No code of the file is run.

    The kind of file is told from its content. Of a training checkpoint the weights are taken (the dictionary under
    "state_dict", "model", ...), and what is no tensor is left out. Raises VidrecError when the file cannot be read,
    holds no tensors, or wants to run something (see `vidrec.interop.pickles`).
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            tensors = flatten(read_any(file))
    except VidrecError as error:
        raise VidrecError(f"{path}: {error}") from error
    except OSError as error:
        raise VidrecError(f"{path}: {error.strerror or error}") from error
    except BROKEN as error:
        raise VidrecError(f"{path}: not a whole .pth, .pt, .safetensors or .npz file ({error})") from error
    if not tensors:
        raise VidrecError(f"{path}: the file holds no named tensors")
    return tensors


# What a damaged file makes the parsers raise.
BROKEN = (
    zipfile.BadZipFile, UnpicklingError, EOFError, struct.error, UnicodeDecodeError, OverflowError, MemoryError,
    RuntimeError, AttributeError, ImportError, KeyError, IndexError, TypeError, ValueError, StopIteration,
    zlib.error,
)  # fmt: skip


def read_any(file: IO[bytes]) -> Any:
    """Tells the format by its first bytes and reads it."""
    start = file.read(9)
    file.seek(0)
    if start[:2] == b"PK":
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith(".npy") for name in archive.namelist()):
                return dict(np.load(file, allow_pickle=False))
            return read_zip(archive)
    if start[8:9] == b"{":
        return read_safetensors(file)
    return read_legacy(file)


def read_safetensors(file: IO[bytes]) -> dict[str, np.ndarray]:
    """Reads a .safetensors file: length of the header, header in JSON, then the bytes of all tensors."""
    header = safetensors_header(file)
    data = memoryview(file.read())  # a slice of which copies nothing, however many tensors name the same bytes
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _SAFETENSORS_DTYPES:
            raise VidrecError(f"tensor {name} has type {entry['dtype']}, which no network here uses")
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], _SAFETENSORS_DTYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def safetensors_header(file: IO[bytes]) -> dict[str, Any]:
    """The header of a .safetensors file that stands at its start."""
    (length,) = struct.unpack("<Q", file.read(8))
    return json.loads(file.read(length))


def metadata(path: str | Path) -> dict[str, str]:
    """What a .safetensors file says beside its tensors; {} of other files, and where it says nothing."""
    with open(path, "rb") as file:
        if file.read(9)[8:] != b"{":
            return {}
        file.seek(0)
        try:
            return safetensors_header(file).get("__metadata__", {})
        except BROKEN as error:
            raise VidrecError(f"{path}: not a whole .safetensors file ({error})") from error


def flatten(value: Any) -> dict[str, np.ndarray]:
    """Returns the named tensors of a checkpoint: those below the first of WRAPPERS that holds any, else all."""
    if not isinstance(value, Mapping):
        return {}
    for wrapper in WRAPPERS:
        if isinstance(value.get(wrapper), Mapping):
            return flatten(value[wrapper])
    tensors = {}
    for key, item in value.items():
        if isinstance(item, np.ndarray):
            tensors[str(key)] = item
        elif isinstance(item, Mapping):
            tensors.update({f"{key}.{below}": tensor for below, tensor in flatten(item).items()})
    return tensors
