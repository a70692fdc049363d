"""TensorFlow's files, written here by a writer of our own, and what is made of their variables."""

from pathlib import Path

import numpy as np
import pytest

from paddleseg_ext.checkpoints.manifest import configuration_of
from paddleseg_ext.checkpoints.store import load_into
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import load_config
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.models.build import build_model
from paddleseg_ext.published.files import published_file, read_published
from paddleseg_ext.published.golden_data import make_input, make_state_dict, read_case, stored_part
from paddleseg_ext.published.importer import ImportOptions, import_checkpoint
from paddleseg_ext.published.systems import recognise
from paddleseg_ext.published.tensorflow import to_layers
from paddleseg_ext.published.tensorflow_files import read_tensorflow

FLOAT, INT64 = 1, 9


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def shape(dims: tuple[int, ...]) -> bytes:
    return b"".join(message(2, number(1, dim)) for dim in dims)


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Keys share what they can with the one before, as LevelDB's do."""
    out, before = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        before = key
    return out + (0).to_bytes(4, "little") + (1).to_bytes(4, "little")


def write_checkpoint(prefix: Path, variables: dict[str, np.ndarray], **entry: int) -> None:
    data, entries = b"", [(b"", number(1, 1))]
    for name in sorted(variables):
        value = np.asarray(variables[name])
        kind = FLOAT if value.dtype == np.float32 else INT64
        fields = number(1, kind) + message(2, shape(value.shape))
        fields += number(4, entry.get("offset", len(data)))
        fields += number(5, entry.get("size", value.nbytes))
        entries.append((name.encode(), fields))
        data += value.tobytes()
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    first, second = block(entries[:2]), block(entries[2:])
    table = first + bytes(5) + second + bytes(5)
    handles = [(b"m", varint(0) + varint(len(first)))]
    handles.append((b"z", varint(len(first) + 5) + varint(len(second))))
    index = block(handles)
    footer = varint(0) + varint(0) + varint(len(table)) + varint(len(index))
    footer += bytes(40 - len(footer)) + bytes.fromhex("57fb808b247547db")
    Path(f"{prefix}.index").write_bytes(table + index + bytes(5) + footer)


def write_graph(path: Path, variables: dict[str, np.ndarray]) -> None:
    nodes = message(1, message(1, b"input") + message(2, b"Placeholder"))
    for name, value in variables.items():
        tensor = number(1, FLOAT) + message(2, shape(value.shape)) + message(4, value.tobytes())
        attribute = message(1, b"value") + message(2, message(8, tensor))
        nodes += message(
            1, message(1, name.encode()) + message(2, b"Const") + message(5, attribute)
        )
    path.write_bytes(nodes)


@pytest.fixture
def variables() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "net/a/conv/W": rng.standard_normal((3, 3, 2, 4)).astype(np.float32),
        "net/a/bn/beta": rng.standard_normal(4).astype(np.float32),
        "net/b/depthwise_filter_w": rng.standard_normal((3, 3, 2, 3)).astype(np.float32),
        "net/b/W": rng.standard_normal((1, 1, 6, 5)).astype(np.float32),
    }


@pytest.mark.parametrize("named", ["m.ckpt-7", "m.ckpt-7.index", "m.ckpt-7.data-00000-of-00001"])
def test_a_checkpoint_is_read_by_any_of_its_names(named: str, variables, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m.ckpt-7", variables | {"step": np.int64(12)})
    read = read_published(tmp_path / named)
    assert set(read) == {*variables, "step"}
    for name, value in variables.items():
        np.testing.assert_array_equal(read[name], value)
    assert read["step"] == 12
    assert published_file(tmp_path / named) == tmp_path / "m.ckpt-7.index"


def test_a_frozen_graph_is_read(variables, tmp_path: Path) -> None:
    write_graph(tmp_path / "frozen.pb", variables)
    read = read_published(tmp_path / "frozen.pb")
    assert {name: value.tolist() for name, value in read.items()} == {
        name: value.tolist() for name, value in variables.items()
    }


def test_a_real_checkpoint_is_read(shared_dir: Path) -> None:
    """Written by TensorFlow: every variable, and the averages in place of the raw values."""
    prefix = shared_dir / "golden_more" / "tf_v2_semantic_tiny_64x96" / "model.ckpt-1234"
    read = read_tensorflow(prefix)
    assert len(read) == 486
    tensors, dropped = to_layers(read)
    raw, _ = to_layers(read, averages=False)
    assert {reason for _, reason in dropped} == {
        "a state of the training",
        "taken in place of the variable",
    }
    name = "BiseNetV2.semantic_branch.stage_1.block_1_seg_head_block.1x1_conv_block.weight"
    assert tensors[name].shape == (19, 8, 1, 1)
    assert not np.array_equal(tensors[name], raw[name])


@pytest.mark.parametrize("entry", [{"offset": 10_000}, {"size": 8}, {"size": 1 << 62}])
def test_variables_outside_the_data_are_refused(entry, variables, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m", variables, **entry)
    with pytest.raises(UsageError, match="not a readable TensorFlow checkpoint"):
        read_published(tmp_path / "m")


def test_variables_that_share_their_bytes_are_refused(variables, tmp_path: Path) -> None:
    """A small file must not ask for more memory than its size."""
    same = {f"net/{i}/W": np.zeros((64,), np.float32) for i in range(50)}
    write_checkpoint(tmp_path / "m", same, offset=0)
    path = tmp_path / "m.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:256])
    with pytest.raises(UsageError, match="reaches outside the data file"):
        read_published(tmp_path / "m")


def test_damaged_files_end_in_one_line(variables, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m", variables)
    write_graph(tmp_path / "m.pb", variables)
    rng = np.random.default_rng(1)
    for name, read in (("m.index", "m"), ("m.pb", "m.pb")):
        path = tmp_path / name
        whole = path.read_bytes()
        for cut in (1, 40, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:cut])
            with pytest.raises(UsageError, match=r"TensorFlow|no variables"):
                read_published(tmp_path / read)
        for _ in range(200):
            damaged = bytearray(whole)
            damaged[rng.integers(len(whole))] = rng.integers(256)
            path.write_bytes(bytes(damaged))
            try:
                read_published(tmp_path / read)
            except UsageError as error:
                assert "\n" not in str(error)
        path.write_bytes(whole)
    Path(tmp_path / "m.data-00000-of-00001").unlink()
    with pytest.raises(UsageError, match=r"m\.data-00000-of-00001"):
        read_published(tmp_path / "m")


def test_layouts_become_paddles(variables) -> None:
    variables["moving_avg/net/a/conv/W/ExponentialMovingAverage"] = (
        variables["net/a/conv/W"] + 1
    ).astype(np.float32)
    tensors, _ = to_layers(variables)
    raw, _ = to_layers(variables, averages=False)
    kernel = variables["net/a/conv/W"]
    np.testing.assert_array_equal(raw["net.a.conv.weight"], kernel.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(tensors["net.a.conv.weight"], (kernel + 1).transpose(3, 2, 0, 1))
    # Output channel i * 3 + j of a depthwise kernel comes from input channel i.
    depthwise = variables["net/b/depthwise_filter_w"]
    made = tensors["net.b.depthwise.weight"]
    assert made.shape == (6, 1, 3, 3)
    np.testing.assert_array_equal(made[4, 0], depthwise[:, :, 1, 1])
    # A norm without gamma scales by 1.
    np.testing.assert_array_equal(tensors["net.a.bn.weight"], np.ones(4))


def test_raw_and_averaged_weights_of_v1_are_two_layouts() -> None:
    plain = {"BiseNet/ffm_module/conv_block_3/W": np.zeros((1, 1, 4, 4), np.float32)}
    assert recognise(plain, "auto", None, "m").name == "v1_xception"
    average = "moving_avg/BiseNet/logits/W/ExponentialMovingAverage"
    both = plain | {average: np.zeros((1, 1, 4, 4), np.float32)}
    with pytest.raises(UsageError, match="v1_xception_raw"):
        recognise(both, "auto", None, "m")
    assert recognise(both, "tf2", "v1_xception_raw", "m").name == "v1_xception_raw"


def _import(path: Path, name: str, config: str, target: Path):
    options = ImportOptions(system="tf2", generation=name)
    return import_checkpoint(path, load_config(config), target, options)


def test_a_network_that_reads_bgr_is_turned(shared_dir: Path, tmp_path: Path) -> None:
    """The imported network gives for RGB what the original gives for BGR."""
    import paddle

    case = read_case(shared_dir / "golden_more" / "tf_v1_xception_64x128")
    write_checkpoint(tmp_path / "m", make_state_dict(case))
    config = "bisenetv1_tf2_xception_cityscapes_640x640_952k"
    result = _import(tmp_path / "m", "v1_xception", config, tmp_path / "m.pdparams")
    network = build_model(configuration_of(result.path), 19)
    assert load_into(network, result.path).complete
    network.eval()
    rgb = np.ascontiguousarray(make_input(case)[:, ::-1])
    with paddle.no_grad():
        logits = network(paddle.to_tensor(rgb))[0].numpy()
    np.testing.assert_allclose(stored_part(logits), case.expected["logits"], atol=5e-5)


def test_a_frozen_graph_has_no_auxiliary_heads(shared_dir: Path, tmp_path: Path) -> None:
    case = read_case(shared_dir / "golden_more" / "tf_v2_64x128")
    variables = {k: v for k, v in make_state_dict(case).items() if "_seg_head_block" not in k}
    write_graph(tmp_path / "frozen.pb", variables)
    config = "bisenetv2_tf2_cityscapes_1024x512_168k"
    result = _import(tmp_path / "frozen.pb", "v2", config, tmp_path / "m.pdparams")
    with Predictor.open(result.path) as predictor:
        logits = predictor.engine.run(make_input(case))
    np.testing.assert_allclose(stored_part(logits), case.expected["logits"], atol=5e-5)
    # What inference needs must be there.
    del variables["BiseNetV2/logits/1x1_conv_block/W"]
    write_graph(tmp_path / "frozen.pb", variables)
    with pytest.raises(UsageError, match=r"head\.classifier\.weight"):
        _import(tmp_path / "frozen.pb", "v2", config, tmp_path / "n.pdparams")
    assert not (tmp_path / "n.pdparams").exists()
