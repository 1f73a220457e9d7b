"""Files in data/ were written by torch 2.13.0 (Python 3.11): one checkpoint by torch.save as it is today (zip.pth) and
with _use_new_zipfile_serialization=False (legacy.pth.tar), and a pickled torch.nn.Linear (module.pth). The checkpoint:

    base = torch.arange(12.).reshape(3, 4)
    {"epoch": 3, "arch": "resnet50", "best_prec1": torch.tensor(52.2), "state_dict": <EXPECTED, as tensors>,
     "scheduler": {"milestones": Counter([30, 45])}, "optimizer": {"state": {0: {"momentum_buffer": base * 2}}}}
"""

import argparse
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from vidrec.errors import VidrecError
from vidrec.interop.pickles import Kind, Storage, Tensor, to_array
from vidrec.interop.reading import read

DATA = Path(__file__).parent / "data"
BASE = np.arange(12, dtype=np.float32).reshape(3, 4)
EXPECTED = {
    "weight": BASE,
    "transposed": BASE.T,
    "shared": BASE[1:],
    "half": np.array([0.5, -2.0], np.float16),
    "brain": np.array([1.5, -0.25], ml_dtypes.bfloat16),
    "scalar": np.array(7),
    "empty": np.zeros((0, 3), np.float32),
    "flags": np.array([True, False]),
    "parameter": np.array([3.0], np.float32),
}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth.tar"])
def test_checkpoints_of_torch(name):
    assert_same(read(DATA / name), EXPECTED)


def test_safetensors_and_npz(tmp_path):
    tensors = {name: np.ascontiguousarray(array) for name, array in EXPECTED.items()}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert_same(read(tmp_path / "a.safetensors"), tensors)
    tensors.pop("brain")  # npz has no name for bfloat16
    np.savez(tmp_path / "a.npz", **tensors)
    assert_same(read(tmp_path / "a.npz"), tensors)


def renamed(tmp_path, source: Path, name: str) -> Path:
    (tmp_path / name).write_bytes(source.read_bytes())
    return tmp_path / name


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.pth.tar", "a.safetensors", "a.npz", "weights"])
def test_the_content_tells_the_format_and_not_the_name(tmp_path, name):
    for source in ("zip.pth", "legacy.pth.tar"):
        assert_same(read(renamed(tmp_path, DATA / source, name)), EXPECTED)
    save_file({"a": BASE}, tmp_path / "any")
    assert_same(read(renamed(tmp_path, tmp_path / "any", name)), {"a": BASE})
    np.savez_compressed(tmp_path / "any.npz", a=BASE)
    assert_same(read(renamed(tmp_path, tmp_path / "any.npz", name)), {"a": BASE})


class Call:
    """Pickles to a call of any function."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def zipped(value) -> bytes:
    """The container of torch.save around one pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value, protocol=2))
    return file.getvalue()


def legacy(value) -> bytes:
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, value, []]
    return b"".join(pickle.dumps(part, protocol=2) for part in parts)


@pytest.mark.parametrize("container", [zipped, legacy])
@pytest.mark.parametrize("hidden", [lambda x: x, lambda x: {"state_dict": {"a": [x]}}], ids=["bare", "nested"])
def test_a_harmful_pickle_is_refused_and_not_run(tmp_path, container, hidden):
    trace = tmp_path / "trace"
    harmful = Call(exec, f"open({str(trace)!r}, 'w').close()")
    pickle.loads(pickle.dumps(harmful))
    assert trace.exists()  # it would have run
    trace.unlink()
    (tmp_path / "weights.pth").write_bytes(container(hidden(harmful)))
    with pytest.raises(VidrecError, match=r"weights\.pth: the file wants to run __builtin__\.exec"):
        read(tmp_path / "weights.pth")
    assert not trace.exists()


def test_options_and_numpy_scalars_beside_the_weights_are_ignored(tmp_path):
    with zipfile.ZipFile(DATA / "zip.pth") as archive:
        checkpoint = {name: archive.read(name) for name in archive.namelist()}
    index = next(name for name in checkpoint if name.endswith("data.pkl"))
    extra = {"best": np.float64(52.2), "args": argparse.Namespace(lr=0.1, names=["a"])}
    inside = pickle.dumps(extra, protocol=2)[2:-1]  # without the opcodes that begin and end a pickle
    # Beside the first entries: the last opcodes of a dictionary are u (set items) and . (stop).
    assert checkpoint[index].endswith(b"u.")
    checkpoint[index] = checkpoint[index][:-2] + b"X\x05\x00\x00\x00extra" + inside + b"u."
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        for name, data in checkpoint.items():
            archive.writestr(name, data)
    assert_same(read(tmp_path / "a.pth"), EXPECTED)


def test_whole_modules_are_refused_by_name():
    with pytest.raises(VidrecError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        read(DATA / "module.pth")


def global_of(name: str) -> bytes:
    """Opcode that puts an allowed name on the stack."""
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


@pytest.mark.parametrize(
    "program",
    [
        global_of("torch._utils._rebuild_tensor_v2") + b"}U\x05valueK\x01sb.",  # sets an attribute of a stand-in
        global_of("torch._utils._rebuild_tensor_v2") + b"N}U\x0c__defaults__)s\x86b.",
        global_of("collections.OrderedDict") + b"N}U\x06updateK\x01s\x86b.",
        global_of("torch.FloatStorage") + b"}U\x05dtypeK\x01sb.",
        global_of("torch.FloatStorage") + b")R.",  # calls a type
        b"U\x03abcQ.",  # a storage of an unknown form
        global_of("torch._utils._rebuild_tensor_v2") + b"(U\x01aK\x00))tR.",  # a tensor of something else
        global_of("torch._utils._rebuild_tensor_v3") + b"(U\x01aK\x00))\x89}" + global_of("torch.float32") + b"tR.",
    ],
)
def test_stand_ins_cannot_be_changed_or_misused(tmp_path, program):
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program)
    with pytest.raises(VidrecError, match=r"weights\.pth"):
        read(path)
    assert_same(read(DATA / "zip.pth"), EXPECTED)  # and the next file is read as before


def tensor(offset, size, stride, numel=6):
    return Tensor(Storage("0", Kind(np.dtype(np.float32)), numel), offset, size, stride)


@pytest.mark.parametrize(
    "bad",
    [
        tensor(0, (7,), (1,)),
        tensor(1, (2, 3), (3, 1)),
        tensor(-1, (2,), (1,)),
        tensor(5, (2,), (-1,)),
        tensor(0, (10**12,), (0,)),
        tensor(0, (7,), (1,), numel=99),
    ],
)
def test_tensors_cannot_reach_outside_their_data(bad):
    with pytest.raises(VidrecError, match="past the end"):
        to_array(bad, np.arange(6, dtype=np.float32).tobytes())


def test_tensors_inside_their_data():
    data = np.arange(6, dtype=np.float32).tobytes()
    assert to_array(tensor(1, (2, 2), (2, 1)), data).tolist() == [[1, 2], [3, 4]]
    assert to_array(tensor(4, (), ()), data) == 4


def unfolding(depth: int = 60) -> dict:
    """A few bytes of pickle: each list holds the one before twice."""
    value = []
    for _ in range(depth):
        value = [value, value]
    return {"state_dict": {"a": value}}


def endless() -> list:
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize("container", [zipped, legacy])
@pytest.mark.parametrize("value", [unfolding(), endless()], ids=["unfolding", "endless"])
def test_containers_that_unfold_without_end(tmp_path, container, value):
    (tmp_path / "weights.pth").write_bytes(container(value))
    with pytest.raises(VidrecError, match=r"weights\.pth: "):
        read(tmp_path / "weights.pth")


def test_members_of_a_torch_file_are_not_decompressed(tmp_path):
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(DATA / "zip.pth") as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in source.namelist():
            packed.writestr(name, source.read(name))
    with pytest.raises(VidrecError, match=r"weights\.pth: .* is compressed"):
        read(path)


def test_tensors_of_the_same_bytes_share_them(tmp_path):
    tensors = read(DATA / "zip.pth")
    assert np.shares_memory(tensors["weight"], tensors["shared"])  # a thousand names cost no more memory than one
    header = {f"t{i}": {"dtype": "U8", "shape": [16], "data_offsets": [0, 16]} for i in range(3)}
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    first, second, _ = read(tmp_path / "a").values()
    assert np.shares_memory(first, second)


def encrypted() -> bytes:
    """The flag of encryption set in both headers of the only member."""
    content = bytearray(zipped({"a": 1}))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    return bytes(content)


def damaged_npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, a=np.arange(1000))
    content = bytearray(file.getvalue())
    content[60:90] = bytes(30)
    return bytes(content)


def broken_safetensors() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 8


@pytest.mark.parametrize(
    "content",
    [b"", b"not weights", (DATA / "zip.pth").read_bytes()[:-900], (DATA / "legacy.pth.tar").read_bytes()[:-40],
     broken_safetensors(), b"PK\x03\x04", pickle.dumps({"a": 1}), zipped([1, 2]), zipped({"epoch": 3}),
     encrypted(), damaged_npz()],
    ids=["empty", "text", "zip", "legacy", "safetensors", "pk", "pickle", "list", "no tensors", "encrypted", "npz"],
)  # fmt: skip
def test_damaged_and_other_files(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(VidrecError, match=r"weights\.pth: "):
        read(path)


def test_no_such_file(tmp_path):
    with pytest.raises(VidrecError, match=r"none\.pth: No such file"):
        read(tmp_path / "none.pth")


def test_objects_in_npz_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([Call(print, "run")], dtype=object))
    with pytest.raises(VidrecError, match=r"a\.npz"):
        read(tmp_path / "a.npz")
