"""Whether a bundle is of a checkpoint: its hash decides, its tensors where there is none."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paddleseg_ext.common.files import sha256_of
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.manifest import Manifest
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


def test_another_hash_is_stale_and_the_right_one_proves_nothing(checkpoint, tmp_path):
    same = sha256_of(checkpoint.path)
    assert "7 of 7 tensors" in checkpoint.why_stale(bundle(tmp_path, moved(TENSORS), same))
    # Folded graphs hold other tensors than the checkpoint they were made from.
    folded = moved([TENSORS[0], TENSORS[1], TENSORS[5]])
    assert checkpoint.why_stale(bundle(tmp_path, folded, same)) == ""
    assert checkpoint.why_changed(bundle(tmp_path, folded, same)) == ""
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


def one_value(tensor: np.ndarray, by: float = 1e-3) -> np.ndarray:
    changed = tensor.copy()
    changed.flat[-1] += by
    return changed


@pytest.mark.parametrize("number", range(len(TENSORS)))
def test_one_changed_value_is_named_whatever_the_manifest_says(checkpoint, tmp_path, number):
    """By the smallest step, in every tensor, and by a factor over a whole one."""
    same = sha256_of(checkpoint.path)
    assert checkpoint.why_changed(bundle(tmp_path, TENSORS, same)) == ""
    for other in (one_value(TENSORS[number]), TENSORS[number] * np.float32(1.01)):
        tensors = [*TENSORS[:number], other, *TENSORS[number + 1 :]]
        changed = bundle(tmp_path, tensors, same)
        assert checkpoint.why_stale(changed) == ""
        why = checkpoint.why_changed(changed)
        assert why.startswith("one weight changed: 1 of 7 tensors of ")
        assert str(changed.params_file) in why and checkpoint.path in why


def test_constants_of_the_graph_are_no_changed_weights(checkpoint, tmp_path):
    """Also where the checkpoint has tensors of their shape that the graph leaves out."""
    constants = [np.linspace(100, 107, 8, dtype=np.float32), np.ones((1, 3, 1, 1), np.float32)]
    assert checkpoint.why_changed(bundle(tmp_path, [*TENSORS[:-3], *constants], None)) == ""


@pytest.mark.parametrize("as_constants", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_onnx_graph_beside_it_is_compared_too(checkpoint, tmp_path, as_constants, dtype):
    onnx = pytest.importorskip("onnx")
    sound = replace(bundle(tmp_path, TENSORS, None), deploy_file=tmp_path / "deploy.yaml")
    sound = replace(
        sound, manifest=replace(sound.manifest, graphs={"onnx": {"file": "model.onnx"}})
    )
    tensors = [tensor.astype(dtype) for tensor in TENSORS]
    write_onnx(onnx, tmp_path / "model.onnx", tensors, as_constants)
    assert checkpoint.why_changed(sound) == ""
    tensors[1] = one_value(tensors[1], 0.1)
    write_onnx(onnx, tmp_path / "model.onnx", tensors, as_constants)
    why = checkpoint.why_changed(sound)
    assert f"1 of 7 tensors of {tmp_path / 'model.onnx'} have other values" in why


def write_onnx(onnx, path: Path, tensors: list[np.ndarray], as_constants: bool) -> None:
    """A graph that holds the tensors as initializers, or as Constant nodes like paddle2onnx's."""
    protos = [onnx.numpy_helper.from_array(t, f"t{i}") for i, t in enumerate(tensors)]
    nodes = [onnx.helper.make_node("Constant", [], [p.name], value=p) for p in protos]
    nodes, held = (nodes, []) if as_constants else ([], protos)
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], held)), str(path))


def test_one_of_many_equal_tensors_is_changed(tmp_path):
    """Fresh norms hold equal values; auxiliary heads hold some more that no graph has."""
    norms = [np.zeros(8, np.float32) for _ in range(6)]
    (tmp_path / "given.pdparams").write_bytes(b"weights")
    given = Checkpoint(str(tmp_path / "given.pdparams"), lambda: norms)
    assert given.why_changed(bundle(tmp_path, norms[:4], None)) == ""
    changed = [one_value(norms[0]), *norms[1:4]]
    assert "1 of 4 tensors" in given.why_changed(bundle(tmp_path, changed, None))
