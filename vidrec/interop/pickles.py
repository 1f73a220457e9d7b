"""Tensors out of PyTorch's own files, without torch and without running anything that stands in them.

A .pth file is a pickle, and a pickle is a small program that may call any function it names. Here it may name a fixed
list of torch's rebuild functions and storage types only, and each of them is replaced by an inert stand-in of ours.
"""

import collections
import io
import math
import operator
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from vidrec.errors import VidrecError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MOST_ITEMS = 1_000_000


class Kind(NamedTuple):
    """Stands for a torch storage type or dtype."""

    dtype: np.dtype


class Storage(NamedTuple):
    """A stretch of the file: `numel` values of one type."""

    key: str
    kind: Kind
    numel: int


class Tensor(NamedTuple):
    """A strided view of a storage, as torch describes one; strides and offset count values."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Rebuild:
    """A function a pickle may call. It has no attributes, so a pickle cannot alter it either."""

    __slots__ = ()

    def __call__(self, *args: Any) -> Tensor:
        match args:
            case (Storage() as storage, int(offset), tuple(size), tuple(stride), *_):
                return Tensor(storage, offset, tuple(map(operator.index, size)), tuple(map(operator.index, stride)))
        raise VidrecError("the file holds a tensor of an unknown form; it is damaged")


class RebuildTyped(Rebuild):
    """The form that names the type beside an untyped storage, which counts bytes."""

    __slots__ = ()

    def __call__(self, *args: Any) -> Tensor:
        match args:
            case (Storage() as storage, _, _, _, _, _, Kind() as kind, *_):
                typed = Storage(storage.key, kind, storage.numel // kind.dtype.itemsize)
                return super().__call__(typed, *args[1:])
        raise VidrecError("the file holds a tensor of an unknown form; it is damaged")


class RebuildParameter(Rebuild):
    """A parameter is its tensor."""

    __slots__ = ()

    def __call__(self, *args: Any) -> Tensor:
        return args[0]


class Ignored:
    """Stands for what training code saved beside the weights, such as its options; nothing in it is used."""

    __slots__ = ()

    def __new__(cls, *args: Any, **options: Any) -> "Ignored":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Nothing is kept."""


_DTYPES = {
    "float32": ("Float", np.float32),
    "float64": ("Double", np.float64),
    "float16": ("Half", np.float16),
    "bfloat16": ("BFloat16", ml_dtypes.bfloat16),
    "int64": ("Long", np.int64),
    "int32": ("Int", np.int32),
    "int16": ("Short", np.int16),
    "int8": ("Char", np.int8),
    "uint8": ("Byte", np.uint8),
    "bool": ("Bool", np.bool_),
}

ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "collections.Counter": dict,  # torch's step schedules keep their milestones in one
    "torch.Size": tuple,
    **dict.fromkeys(("argparse.Namespace", "_codecs.encode", "numpy.dtype"), Ignored),
    **dict.fromkeys(("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"), Ignored),
    "torch._utils._rebuild_tensor": Rebuild(),
    "torch._utils._rebuild_tensor_v2": Rebuild(),
    "torch._utils._rebuild_tensor_v3": RebuildTyped(),
    "torch._utils._rebuild_parameter": RebuildParameter(),
    "torch.storage.UntypedStorage": Kind(np.dtype(np.uint8)),
    **{f"torch.{name}": Kind(np.dtype(dtype)) for name, (_, dtype) in _DTYPES.items()},
    **{f"torch.{storage}Storage": Kind(np.dtype(dtype)) for storage, dtype in _DTYPES.values()},
}


class TensorUnpickler(pickle.Unpickler):
    """Unpickles containers, numbers, strings and torch tensors, and ignores options and numpy scalars beside them.

    Raises VidrecError on any other name.

    `itemsizes` has the bytes of one value of each storage that was named.
    """

    def __init__(self, file: IO[bytes]):
        super().__init__(file)
        self.itemsizes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Finds one of the allowed names; any other is a VidrecError."""
        full = f"{module}.{name}"
        if full not in ALLOWED:
            raise VidrecError(
                f"the file wants to run {full}, which is not needed to read weights and may be harmful; nothing was "
                "run. If you trust the file, save its state_dict alone with torch and import that"
            )
        return ALLOWED[full]

    def persistent_load(self, pid: Any) -> Storage:
        """Reads a reference to a tensor's storage."""
        match pid:
            case ("storage", Kind() as kind, str(key), _, int(numel), *view) if view in ([], [None]):
                self.itemsizes[key] = kind.dtype.itemsize
                return Storage(key, kind, numel)
        raise VidrecError(f"the file holds a storage of an unknown form: {str(pid)[:80]}")


def read_zip(archive: zipfile.ZipFile) -> Any:
    """Returns the object in a file of torch.save (since torch 1.6), its tensors as numpy arrays."""
    names = archive.namelist()
    index = next(name for name in names if name == "data.pkl" or name.endswith("/data.pkl"))
    folder = index.removesuffix("data.pkl")
    if f"{folder}byteorder" in names and read_stored(archive, f"{folder}byteorder") != b"little":
        raise VidrecError("the file was written on a big-endian machine; save it again on another")
    value = TensorUnpickler(io.BytesIO(read_stored(archive, index))).load()
    blobs: dict[str, bytes] = {}

    def load(storage: Storage) -> bytes:
        """The bytes of a storage, read from the archive once."""
        if storage.key not in blobs:
            blobs[storage.key] = read_stored(archive, f"{folder}data/{storage.key}")
        return blobs[storage.key]

    return materialize(value, load)


def read_stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """Returns a member of the archive; torch compresses none, so one that is could only unfold to fill the memory."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise VidrecError(f"{name} in the file is compressed, which torch never does; save it again with torch.save")
    return archive.read(name)


def read_legacy(file: IO[bytes]) -> Any:
    """Returns the object in a file of torch.save before torch 1.6: pickles one after the other, then raw storages."""
    magic, version, system = (TensorUnpickler(file).load() for _ in range(3))
    if magic != LEGACY_MAGIC or version != 1001 or not system.get("little_endian", False):
        raise VidrecError("the file is a pickle, but not of torch.save on a little-endian machine")
    unpickler = TensorUnpickler(file)
    value = unpickler.load()
    blobs = {}
    for key in TensorUnpickler(file).load():
        (numel,) = struct.unpack("<q", file.read(8))
        blobs[key] = file.read(max(numel, 0) * unpickler.itemsizes[key])
    return materialize(value, lambda storage: blobs[storage.key])


def materialize(value: Any, load: Callable[[Storage], bytes], places: Iterator[int] | None = None) -> Any:
    """Replaces the tensors in nested containers by read-only views of the bytes that `load` returns.

    Raises VidrecError when there are more than MOST_ITEMS items (`places` are those left): a few containers that hold
    each other many times over would unfold without end.
    """
    places = iter(range(MOST_ITEMS)) if places is None else places
    if next(places, None) is None:
        raise VidrecError(f"the file holds more than {MOST_ITEMS:,} items, which no weights do; save the weights alone")
    if isinstance(value, Tensor):
        return to_array(value, load(value.storage))
    if isinstance(value, dict):
        return {key: materialize(item, load, places) for key, item in dict.items(value)}
    if isinstance(value, list | tuple):
        return [materialize(item, load, places) for item in value]
    return None if isinstance(value, Ignored) else value


def to_array(tensor: Tensor, data: bytes) -> np.ndarray:
    """Returns a tensor as a view of its storage; raises VidrecError where it would reach outside of it."""
    values = np.frombuffer(data, tensor.storage.kind.dtype)
    size, stride = tensor.size, tensor.stride
    last = tensor.offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:
        return np.empty(size, values.dtype)
    inside = min(tensor.offset, *size, *stride, 0) >= 0 and last < min(len(values), tensor.storage.numel)
    if not inside or math.prod(size) > len(values):  # a stride of 0 could ask for any amount of memory
        raise VidrecError(f"a tensor of shape {list(size)} reaches past the end of its data; the file is damaged")
    steps = tuple(step * values.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], size, steps, writeable=False)
