"""Weights and manifest: what is loaded, what is refused, what a kill leaves behind."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from paddleseg_ext.checkpoints import manifest, store
from paddleseg_ext.checkpoints.manifest import CheckpointManifest, manifest_path, read_manifest
from paddleseg_ext.common.errors import UsageError


def network(classes: int = 4) -> nn.Layer:
    return nn.Sequential(nn.Conv2D(3, 8, 3), nn.BatchNorm2D(8), nn.Conv2D(8, classes, 1))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    saved, loaded = network(), network()
    path = tmp_path / "model.pdparams"
    store.save_weights(saved, path, CheckpointManifest(iteration=7))
    report = store.load_into(loaded, path)
    assert report.complete
    assert report.loaded == report.total == 8
    for name, tensor in saved.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), loaded.state_dict()[name].numpy())
    assert read_manifest(path).iteration == 7


def test_a_file_of_paddle_itself_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plain.pdparams"
    paddle.save(network().state_dict(), str(path))
    assert store.load_into(network(), path).complete


@pytest.mark.parametrize("classes", [3, 5])
def test_another_class_count_is_refused_and_changes_nothing(tmp_path: Path, classes: int) -> None:
    path = tmp_path / "model.pdparams"
    store.save_weights(network(classes), path)
    model = network()
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    with pytest.raises(UsageError, match=r"misshapen: 2\.weight"):
        store.load_into(model, path)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("0.weight", np.nan, "NaN or infinite values"),
        ("2.bias", -np.inf, "NaN or infinite values"),
        ("1._variance", -1, "variances below 0"),
    ],
)
def test_weights_that_compute_nothing_are_refused(name: str, value: float, words: str) -> None:
    """ReLU takes the maximum of NaN and 0, so that the label maps look like any others."""
    arrays = store.weights_of(network())
    arrays[name].flat[1] = value
    model = network()
    before = store.weights_of(model)
    with pytest.raises(UsageError, match=rf"^a file: {name}: {words}.*earlier checkpoint"):
        store.load_arrays_into(model, arrays, "a file")
    for kept, tensor in store.weights_of(model).items():
        np.testing.assert_array_equal(tensor, before[kept])


def test_loose_loading_says_what_was_left_out() -> None:
    arrays = {k: v.numpy() for k, v in network(5).state_dict().items()} | {"extra": np.zeros(1)}
    report = store.load_arrays_into(network(), arrays, "a file", strict=False)
    assert report.unexpected == ["extra"]
    assert len(report.misshapen) == 2
    assert "loaded 6 of 8" in report.describe()
    with pytest.raises(UsageError, match="does not fit"):
        store.load_arrays_into(network(), {"foreign": np.zeros(1)}, "a file", strict=False)


class RunsACommand:
    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    path, victim = tmp_path / "evil.pdparams", tmp_path / "victim"
    path.write_bytes(pickle.dumps({"0.weight": RunsACommand(victim)}))
    with pytest.raises(UsageError, match=r"asks for '(posix|nt)\.system'"):
        store.read_arrays(path)
    assert not victim.exists()


@pytest.mark.parametrize("keep", [0, 1, 20, 500])
def test_a_file_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    whole, path = tmp_path / "whole.pdparams", tmp_path / "cut.pdparams"
    store.save_weights(network(), whole)
    path.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"cut\.pdparams"):
        store.read_arrays(path)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "model.pdparams"
    store.save_weights(network(), path)
    data = bytearray(path.read_bytes())
    data[data.index(b"_mean") + 200] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match="sha256"):
        store.load_into(network(), path)


def test_other_than_floats_are_refused_and_not_cast(tmp_path: Path) -> None:
    """Paddle saves bfloat16 as the bits in a uint16, which a cast would take for whole numbers."""
    bits = paddle.ones([2]).astype("bfloat16")
    paddle.save({"bits": bits}, str(tmp_path / "bits.pdparams"))
    wrong = {
        "uint16": store.read_arrays(tmp_path / "bits.pdparams")["bits"].reshape(-1)[:1],
        "complex64": np.ones(1, np.complex64),
        "<U1": np.array(["1"]),
    }
    for kind, value in wrong.items():
        arrays = store.weights_of(network())
        name = next(iter(arrays))
        arrays[name] = np.broadcast_to(value, arrays[name].shape)
        with pytest.raises(UsageError, match=f"misshapen: {name} of {kind} instead of float32"):
            store.load_arrays_into(network(), arrays, "x.pdparams")


@pytest.mark.parametrize("content", ["[]", '"text"', '{"previous": "text"}'])
def test_a_strange_manifest_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model.pdparams"
    store.save_weights(network(), path)
    manifest_path(path).write_text(content)
    with pytest.raises(UsageError, match=r"model\.pdparams"):
        store.load_into(network(), path)
    store.save_weights(network(), path)
    assert store.load_into(network(), path).complete


@pytest.mark.parametrize("stops_at", ["weights written", "manifest written"])
def test_a_kill_between_the_two_files_leaves_a_matching_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops_at: str
) -> None:
    path = tmp_path / "model.pdparams"
    store.save_weights(network(), path, CheckpointManifest(iteration=1))

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    if stops_at == "weights written":
        monkeypatch.setattr(manifest, "write_json", kill)
    else:
        monkeypatch.setattr(Path, "replace", replace_but_not(path, Path.replace))
    with pytest.raises(KeyboardInterrupt):
        store.save_weights(network(), path, CheckpointManifest(iteration=2))
    monkeypatch.undo()
    assert store.load_into(network(), path).complete
    assert read_manifest(path).iteration == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.pdparams", "model.pdparams.json"]
    store.save_weights(network(), path, CheckpointManifest(iteration=3))
    assert read_manifest(path).iteration == 3


def replace_but_not(path: Path, replace):
    def wrapped(self: Path, target: Path):
        if Path(target) == path:
            raise KeyboardInterrupt
        return replace(self, target)

    return wrapped


def test_a_manifest_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "model.pdparams"
    for iteration in range(4):
        store.save_weights(network(), path, CheckpointManifest(iteration=iteration))
    written = json.loads(manifest_path(path).read_text())
    assert written["previous"]["iteration"] == 2
    assert not written["previous"].get("previous")


@pytest.mark.parametrize(
    "head",
    [
        b"PK\x03\x04" + bytes(20),  # torch.save, and numpy's npz
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",  # torch.save before 1.6
        b"\x02" + bytes(7) + b"{}",  # safetensors
    ],
)
def test_a_file_of_another_kind_is_sent_to_the_importer(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "model_final.pth"
    path.write_bytes(head)
    with pytest.raises(UsageError, match=r"paddleseg-ext import .*model_final\.pth"):
        store.read_arrays(path)


class Whole(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = network(), nn.Conv2D(4, 2, 1)


@pytest.mark.parametrize(
    ("of", "into", "prefix", "words"),
    [
        (network, Whole, "", r"backbone alone: .* --opts model\.backbone\.pretrained=FILE"),
        (Whole, network, "", r"'backbone\.\*' .* a whole network; .* --finetune FILE"),
        (network, network, "module.", r"begins with 'module\.': .* import --from auto"),
        (Whole, Whole, "module.", r"begins with 'module\.': .* import --from auto"),
        (lambda: network(5), network, "", "Network, class count and options must be those"),
        (nn.Linear, Whole, "", "Network, class count"),
    ],
)
def test_names_that_fit_but_for_a_prefix(tmp_path: Path, of, into, prefix, words) -> None:  # type: ignore[no-untyped-def]
    source = of(2, 3) if of is nn.Linear else of()
    arrays = {prefix + name: array for name, array in store.weights_of(source).items()}
    store.save_arrays(arrays, tmp_path / "x.pdparams", CheckpointManifest())
    with pytest.raises(UsageError, match=words) as caught:
        store.load_into(into(), tmp_path / "x.pdparams")
    assert "\n" not in str(caught.value)
