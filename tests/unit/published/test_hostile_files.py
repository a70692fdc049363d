"""Hostile and damaged checkpoints: one line each, and bounded memory and time.

The bounds are those of docs/design.md; the files are written by tests/hostile_checkpoints.py.
"""

import random
from contextlib import suppress
from pathlib import Path

import pytest

from paddleseg_ext.checkpoints.pickles import MOST_TIMES
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.published.files import read_published
from tests.hostile_checkpoints import (
    BOMBS,
    DEEPLY_NESTED,
    LEGACY,
    WRONG_ARRAYS,
    WRONG_TENSORS,
    array,
    state,
    tensor,
    torch_zip,
)
from tests.limits import under_limits

FILES = Path(__file__).parent / "files"
READ = "from paddleseg_ext.published.files import read_published\nread_published(sys.stdin.read())"
OWN_MIB = 250  # of the reader itself: operations, the modules it imports, 16 MiB to spare


@pytest.mark.parametrize("name", BOMBS)
def test_no_file_takes_more_memory_than_its_size_allows(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    BOMBS[name](path)
    allowed = MOST_TIMES * path.stat().st_size // (1 << 20) + OWN_MIB
    message = under_limits(READ, str(path).encode(), seconds=20, mebibytes=allowed)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 500


@pytest.mark.parametrize("form", ["x.pdparams", "zip.pth", "legacy.pth"])
def test_nesting_of_any_depth_is_one_line(form: str, tmp_path: Path) -> None:
    """In C, hashing a tuple nested a million deep ends the interpreter."""
    paths = []
    for i, content in enumerate(DEEPLY_NESTED.values()):
        path = tmp_path / f"{i}{form}"
        if form.startswith("zip"):
            torch_zip(path, content)
        else:
            path.write_bytes((LEGACY if form.startswith("legacy") else b"") + content)
        paths.append(str(path))
    lines = (
        "from paddleseg_ext.published.files import read_published\n"
        "for path in sys.stdin.read().split():\n"
        "    try:\n"
        "        read_published(path)\n"
        "    except UsageError as error:\n"
        "        print(error)\n"
        "    else:\n"
        "        print('was read')"
    )
    messages = under_limits(lines, "\n".join(paths).encode(), seconds=60, mebibytes=500)
    assert len(messages.splitlines()) == len(paths)
    for path, message in zip(paths, messages.splitlines(), strict=True):
        assert message.startswith(path) and len(message) < 500


def test_the_parts_of_the_cases_are_right() -> None:
    """Without their damage the files of the cases below are read."""
    assert read_bytes(state(array())).shape == (1,)


def read_bytes(content: bytes, folder: Path | None = None) -> object:
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "x.pdparams"
        path.write_bytes(content)
        return read_published(path)["a"]


@pytest.mark.parametrize("name", WRONG_ARRAYS)
def test_wrong_kinds_in_a_pdparams(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pdparams"
    path.write_bytes(state(WRONG_ARRAYS[name]))
    with pytest.raises(UsageError, match=r"x\.pdparams: ") as caught:
        read_published(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", WRONG_ARRAYS | WRONG_TENSORS)
def test_wrong_kinds_in_a_pth(name: str, tmp_path: Path) -> None:
    assert read_published(torch_zip(tmp_path / "good.pth", state(tensor())))["a"].shape == (2, 2)
    path = torch_zip(tmp_path / "x.pth", state((WRONG_ARRAYS | WRONG_TENSORS)[name]))
    with pytest.raises(UsageError, match=r"x\.pth: ") as caught:
        read_published(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "name", ["zip.pth", "legacy.pth", "wrapped.pth.tar", "nested.pth", "plain.npz",
             "plain.safetensors", "demo.pdparams"],
)  # fmt: skip
def test_damage_anywhere_is_read_or_one_line(name: str, tmp_path: Path) -> None:
    source = FILES / name
    if name == "demo.pdparams":
        source = tmp_path / "source"
        source.write_bytes(state(array()))
    whole, path = source.read_bytes(), tmp_path / f"damaged {name}"
    rng = random.Random(7)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[place] = rng.randrange(256)
            elif kind == 1:
                del data[place : place + rng.randrange(1, 30)]
            elif kind == 2:
                data[place:place] = rng.choice((b"\xff" * 8, b"\0" * 8, b"]", b"}", b"(", b"\x85"))
            else:
                data[place:place] = data[: rng.randrange(1, 60)]
            if not data:
                break
        path.write_bytes(bytes(data) or b"x")
        with suppress(UsageError):
            read_published(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("net.onnx", b"\x08\x08\x12\x07pytorch:", "this is an ONNX graph"),
        ("net.pth", b"\x08\x08\x12\x07pytorch:", "this is an ONNX graph"),
        ("net.h5", b"\x89HDF\r\n", "this is an HDF5 file"),
        ("net.pth", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("net.pth", b"<!DOCTYPE html><html>", "a web page"),
        ("model.pdiparams", b"\0\0\0\0\0\0\0\0", "the weights of an exported graph"),
        ("model.json", b'{"base_code": {}}', "a JSON file"),
        ("net.tar.gz", b"\x1f\x8b\x08\0", "a gzip file; unpack it"),
    ],
)
def test_other_files_are_called_by_their_name(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"a checkpoint is expected, .*{words}"):
        read_published(tmp_path / name)


@pytest.mark.parametrize("entry", ["net/constants.pkl", "net/code/__torch__.py"])
def test_torchscript_is_sent_to_its_state_dict(entry: str, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "net.pt", "w") as file:
        file.writestr("net/data.pkl", b"\x80\x02c__torch__\nNet\n)\x81.")
        file.writestr(entry, b"pass\n" * 50, zipfile.ZIP_DEFLATED)
    with pytest.raises(UsageError, match=r"TorchScript program.*torch\.jit\.load"):
        read_published(tmp_path / "net.pt")
