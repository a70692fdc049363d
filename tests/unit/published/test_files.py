"""Checkpoint files of other systems: read right, or refused with a sentence that helps."""

import json
import pickle
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from paddleseg_ext.checkpoints.pickles import Allowance
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.published.files import _Storage, _Tensor, read_published

FILES = Path(__file__).parent / "files"
WEIGHT = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "wrapped.pth.tar", "plain.safetensors"])
def test_every_format_gives_the_same_tensors(name: str) -> None:
    arrays = read_published(FILES / name)
    assert set(arrays) == {
        "conv.weight",
        "conv.transposed",
        "bn.half",
        "bn.brain",
        "bn.num_batches_tracked",
        "bn.weight",
    }
    np.testing.assert_array_equal(arrays["conv.weight"], WEIGHT)
    np.testing.assert_array_equal(arrays["conv.transposed"], WEIGHT.transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(arrays["bn.half"], np.float16([0.5, -2.0]))
    np.testing.assert_array_equal(arrays["bn.brain"], np.float32([1.5, -3.0]))
    assert arrays["bn.num_batches_tracked"] == 7
    np.testing.assert_array_equal(arrays["bn.weight"], [1.0, 2.0])


def test_npz_and_nested_dicts() -> None:
    np.testing.assert_array_equal(read_published(FILES / "plain.npz")["conv.weight"], WEIGHT)
    assert set(read_published(FILES / "nested.pth")) == {"detail.conv.weight", "bga.bn.weight"}


@pytest.mark.parametrize("before", ["model.", "model.module.", "module._orig_mod."])
def test_what_wrappers_put_before_every_name_is_taken_off(before: str, tmp_path: Path) -> None:
    arrays = {f"{before}conv.weight": WEIGHT, f"{before}model.bias": WEIGHT}
    np.savez(tmp_path / "wrapped.npz", **arrays)
    assert set(read_published(tmp_path / "wrapped.npz")) == {"conv.weight", "model.bias"}


@pytest.mark.parametrize("name", ["hostile.pth", "hostile_legacy.pth"])
def test_a_pickle_that_would_run_something_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"refused: it asks for '(io|builtins|__builtin__)\.open'"):
        read_published(FILES / name)
    assert not list(tmp_path.iterdir())


def test_a_plain_pickle_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "weights.pdparams"
    path.write_bytes(pickle.dumps({"a": print}))
    with pytest.raises(UsageError, match=r"asks for 'builtins\.print'"):
        read_published(path)


def test_a_whole_module_is_refused_by_name() -> None:
    with pytest.raises(
        UsageError, match=r"'torch\.nn\.modules\.conv\.Conv2d'.* its state_dict\(\)"
    ):
        read_published(FILES / "whole_module.pth")


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "plain.safetensors", "plain.npz"])
@pytest.mark.parametrize("part", [0.2, 0.6, 0.95])
def test_cut_short(name: str, part: float, tmp_path: Path) -> None:
    data = (FILES / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UsageError, match=name):
        read_published(path)


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_published(tmp_path / "none.pth")
    (tmp_path / "empty.pth").touch()
    with pytest.raises(UsageError, match="is empty"):
        read_published(tmp_path / "empty.pth")
    (tmp_path / "text.pth").write_text("<html>404 Not Found</html>")
    with pytest.raises(UsageError, match=r"text\.pth"):
        read_published(tmp_path / "text.pth")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(UsageError, match="neither a PyTorch checkpoint"):
        read_published(tmp_path / "other.zip")


def test_a_zip_that_swells_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * 100_000)
    with pytest.raises(UsageError, match="compressed"):
        read_published(tmp_path / "bomb.pth")


def test_a_damaged_zip_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "damaged.npz"
    np.savez_compressed(path, weight=np.arange(60.0).reshape(20, 3))
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with suppress(UsageError):  # where nothing depends on the byte, it is read
            read_published(path)


def test_a_tensor_outside_its_storage(tmp_path: Path) -> None:
    """A view of 24 numbers whose storage brings only 8."""
    path = tmp_path / "short.pth"
    shutil.copy(FILES / "zip.pth", path)
    with zipfile.ZipFile(FILES / "zip.pth") as source, zipfile.ZipFile(path, "w") as target:
        for info in source.infolist():
            data = source.read(info)
            target.writestr(info.filename, data[:32] if len(data) == 96 else data)
    with pytest.raises(UsageError, match="reaches outside its data"):
        read_published(path)


def test_a_small_file_cannot_ask_for_much_memory() -> None:
    storage = _Storage("<f4", 1, b"\0" * 4)
    with pytest.raises(ValueError, match="reaches outside"):
        _Tensor(storage, 0, (10**12,), (0,)).to_array(Allowance("x.pth", 1000))


def test_pdparams_of_paddle_itself(tmp_path: Path) -> None:
    import paddle

    paddle.save({"conv.weight": paddle.to_tensor(WEIGHT)}, str(tmp_path / "x.pdparams"))
    np.testing.assert_array_equal(read_published(tmp_path / "x.pdparams")["conv.weight"], WEIGHT)


def test_safetensors_with_offsets_outside(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(UsageError, match="outside the file"):
        read_published(path)


def test_safetensors_with_a_header_nested_deep(tmp_path: Path) -> None:
    header = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    path = tmp_path / "deep.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(
        UsageError, match=r"deep\.safetensors: not a readable checkpoint, .*nested deeper than"
    ):
        read_published(path)


def test_safetensors_of_all_kinds_and_shapes(tmp_path: Path) -> None:
    tensors = {
        "empty": ("F32", [0, 3], b""),
        "scalar": ("I64", [], (7).to_bytes(8, "little")),
        "brain": ("BF16", [2], np.array([1.5, -3], "<f4").view("<u2")[1::2].tobytes()),
    }
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    arrays = read_published(path)
    assert arrays["empty"].shape == (0, 3) and arrays["scalar"] == 7
    np.testing.assert_array_equal(arrays["brain"], np.float32([1.5, -3]))
