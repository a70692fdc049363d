"""Whether a bundle is of a checkpoint: its hash decides, its tensors where there is none."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paddleseg_ext.common.files import sha256_of
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle, Manifest
from paddleseg_ext.parity.checkpoint import Checkpoint
from paddleseg_ext.parity.weights import tensor_shapes

GENERATOR = np.random.default_rng(0)
TENSORS = [
    GENERATOR.standard_normal(shape).astype(np.float32)
    for shape in [(8, 3, 3, 3), (8,), (8,), (8,), (8,), (4, 8, 1, 1), (4,)]
]


def write_params(path: Path, tensors: list[np.ndarray]) -> Path:
    """A `.pdiparams`: version, no LoD, version, TensorDesc (float32, dims), data."""
    content = b""
    for tensor in tensors:
        desc = bytes([0x08, 5]) + b"".join(bytes([0x10, side]) for side in tensor.shape)
        content += struct.pack("<IQIi", 0, 0, 0, len(desc)) + desc + tensor.tobytes()
    path.write_bytes(content)
    return path


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    (tmp_path / "given.pdparams").write_bytes(b"weights")
    return Checkpoint(str(tmp_path / "given.pdparams"), lambda: TENSORS)


def bundle(tmp_path: Path, tensors: list[np.ndarray], sha256: str | None) -> Bundle:
    params = write_params(tmp_path / "model.pdiparams", tensors)
    made_from = {"path": "older.pdparams", "sha256": sha256, "iteration": 100}
    manifest = Manifest("net", generic_table(4), made_from)
    deploy, model = tmp_path / "deploy.yaml", tmp_path / "model.json"
    return Bundle(deploy, model, params, [], None, "none", manifest)


def moved(tensors: list[np.ndarray]) -> list[np.ndarray]:
    return [tensor + np.float32(1e-3) for tensor in tensors]


def test_the_shapes_of_a_file(tmp_path):
    path = write_params(tmp_path / "p", [*TENSORS, np.ones((1,), np.float32)])
    assert tensor_shapes(path) == [tensor.shape for tensor in TENSORS]


def test_the_hash_of_the_manifest_decides(checkpoint, tmp_path):
    same = sha256_of(checkpoint.path)
    # INT8 and folded graphs hold other tensors than the checkpoint they were made from.
    assert checkpoint.why_stale(bundle(tmp_path, moved(TENSORS), same)) == ""
    why = checkpoint.why_stale(bundle(tmp_path, moved(TENSORS), "0" * 64))
    assert why.startswith("stale checkpoint: ")
    assert "was exported from older.pdparams (iteration 100)" in why
    one_tensor = [*TENSORS[:-1], *moved(TENSORS[-1:])]
    assert checkpoint.why_stale(bundle(tmp_path, one_tensor, "0" * 64))


def test_a_checkpoint_that_was_saved_again_is_the_same_one(checkpoint, tmp_path):
    assert checkpoint.why_stale(bundle(tmp_path, TENSORS, "0" * 64)) == ""


def test_an_onnx_graph_of_another_checkpoint_is_stale_by_its_hash(checkpoint, tmp_path):
    graph = replace(bundle(tmp_path, TENSORS, "0" * 64), params_file=None)
    assert checkpoint.why_stale(graph).startswith("stale checkpoint: ")
    assert checkpoint.why_stale(replace(graph, manifest=None)) == ""


def test_without_a_hash_the_tensors_tell_where_they_can_be_compared(checkpoint, tmp_path):
    assert checkpoint.why_stale(bundle(tmp_path, TENSORS, None)) == ""
    # One tensor of them is a fault of another name.
    one_tensor = [*TENSORS[:-1], *moved(TENSORS[-1:])]
    assert checkpoint.why_stale(bundle(tmp_path, one_tensor, None)) == ""
    no_manifest = replace(bundle(tmp_path, moved(TENSORS), None), manifest=None)
    assert "7 of 7 tensors of" in checkpoint.why_stale(no_manifest)
    # Batch normalisation put into the convolutions: fewer tensors, none as it was.
    folded = moved([TENSORS[0], TENSORS[1], TENSORS[5]])
    assert checkpoint.why_stale(bundle(tmp_path, folded, None)) == ""
    other_shapes = [np.ones((5, 5), np.float32)] * 7
    assert checkpoint.why_stale(bundle(tmp_path, other_shapes, None)) == ""
