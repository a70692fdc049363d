"""JSON is read as plain data: whole, each key once, finite numbers, bounded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddleseg_ext.checkpoints.manifest import manifest_path, read_manifest
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import write_json
from paddleseg_ext.common.json_files import DEEPEST, parse_json, read_json
from paddleseg_ext.data import packed
from paddleseg_ext.evaluation.compare import read_evaluation
from paddleseg_ext.published.files import read_published
from paddleseg_ext.training.history import History
from paddleseg_ext.training.state import TrainState
from tests.limits import under_limits

REFUSED = [
    (b'{"a": 1, "b": 2, "a": 1}', "the key 'a' appears twice"),
    (b'[{"x": {"\\u0061": 1, "a": 1}}]', "the key 'a' appears twice"),
    (b'{"\\u001b[2J": 1, "\\u001b[2J": 2}', r"the key '\\x1b\[2J' appears twice"),
    (b'{"a": NaN}', "the number NaN, which is not finite"),
    (b"[-Infinity]", "the number -Infinity, which is not finite"),
    (b"[1e999]", "the number 1e999, which is not finite"),
    (b'{"a": "\\ud83d"}', r"the letter \\ud83d, which no text holds"),
    (b'{"\\uDfff": 1}', r"the letter \\udfff, which no text holds"),
    (b"[" * (DEEPEST + 2) + b"]" * (DEEPEST + 2), f"nested deeper than {DEEPEST} levels"),
    (b'{"a":' * 100_000, f"nested deeper than {DEEPEST} levels"),
    (b"[" + b"9" * 100_000 + b"]", "4300 digits"),
    (b'{"a": "\xed\xa0\xbd"}', "utf-8"),
    (b'{"a": 1', "line 1 column"),
    (b"", "line 1 column"),
]


@pytest.mark.parametrize(("content", "words"), REFUSED)
def test_wrong_texts_are_one_line(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_json(content)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Letters beyond 16 bits, and the bytes of a file's name that is no UTF-8."""
    content = {"image": "caf\udce9.png", "name": "\U0001f697", "iou": [0.1, None, 1e-300, -0.0]}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert parse_json(json.dumps(content).encode()) == content  # with both as escapes
    nested: Any = 1
    for _ in range(DEEPEST):
        nested = [nested]
    assert parse_json(json.dumps(nested).encode()) == nested


def test_the_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"[1, 2]")
    assert read_json(path, 6) == [1, 2]
    with pytest.raises(ValueError, match="more than 5 bytes"):
        read_json(path, 5)
    with pytest.raises(ValueError, match="no regular file"):
        read_json(tmp_path)


def _manifest(folder: Path, content: bytes) -> Path:
    weights = folder / "model.pdparams"
    weights.write_bytes(b"weights")
    path = manifest_path(weights)
    path.write_bytes(content)
    read_manifest(weights)
    return path


def _file(name: str, read: Callable[[Path], Any]) -> Callable[[Path, bytes], Any]:
    def written(folder: Path, content: bytes) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        read(folder)

    return written


READERS = {
    "model.pdparams.json": _manifest,
    "train_state.json": _file("train_state.json", TrainState.read),
    "history.json": _file("history.json", lambda folder: History.read(folder / "history.json")),
    "index.json": _file("train/index.json", packed.PackedDataset),
    "val.json": _file("val.json", lambda folder: read_evaluation(folder / "val.json")),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "content", [b'{"a": 1, "a": 1}', b'{"train": NaN}', b'{"a": "\\ud800"}', b"[" * 60 + b"]" * 60]
)
def test_every_file_is_read_so(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        READERS[name](tmp_path, content)
    assert "\n" not in str(caught.value)
    assert any(
        words in str(caught.value) for words in ("twice", "not finite", "no text holds", "deeper")
    )


def test_a_tensor_that_a_safetensors_file_names_twice(tmp_path: Path) -> None:
    entry = b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    header = b"{" + entry + b", " + entry + b"}"
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + np.float32(1).tobytes())
    with pytest.raises(UsageError, match="the key 'a' appears twice"):
        read_published(path)


def test_reading_costs_a_bounded_multiple_of_the_size(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"[" + b",".join([b"{}"] * 300_000) + b"]")
    lines = f"from paddleseg_ext.common.json_files import read_json\nread_json({str(path)!r})"
    assert under_limits(lines, mebibytes=60) == ""
