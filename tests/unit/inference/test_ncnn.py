"""ncnn: one answer with the others, precision by what its layers leave, streams, one size."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engines import assert_bf16_is_proven, convolved, write_onnx

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.machine import has_bf16
from paddleseg_ext.export.mobile_graphs import pnnx_program, write_ncnn
from paddleseg_ext.images.functional import resize_logits
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle, bundle_for_onnx
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.engines.table import open_engine
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.runtime import RuntimeSpec

pytest.importorskip("ncnn")
if pnnx_program() is None:
    pytest.skip("pnnx is not installed: requirements/pnnx.txt", allow_module_level=True)

SIDES = (1, 3, 64, 64)


def make_bundle(folder: Path, sides: tuple[int, ...] = SIDES) -> Bundle:
    return bundle_of(write_onnx(folder / "net.onnx", sides), sides)


def bundle_of(onnx: Path, sides: tuple[int, ...] = SIDES) -> Bundle:
    graphs = {"ncnn": write_ncnn(onnx, onnx.with_name("model.ncnn.param"), sides)}
    manifest = Manifest("Network", generic_table(8), graphs=graphs)
    bundle = bundle_for_onnx(onnx, input_shape=[-1, *sides[1:]], manifest=manifest)
    return replace(bundle, deploy_file=onnx.with_name("deploy.yaml"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("ncnn"))


def opened(bundle: Bundle, **settings: object) -> Engine:
    return open_engine(bundle, RuntimeSpec("ncnn", **settings))  # type: ignore[arg-type]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_images_of_a_batch_run_one_by_one_and_outputs_are_apart(bundle: Bundle) -> None:
    engine = opened(bundle, threads=1)
    batch = noise(3, *SIDES[1:])
    first, second = engine.run(batch), engine.run(-batch)
    np.testing.assert_allclose(first, convolved(batch), rtol=0, atol=1e-4)
    np.testing.assert_allclose(second, convolved(-batch), rtol=0, atol=1e-4)


def test_another_type_of_input_and_missing_weights_are_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    with pytest.raises(UsageError, match="float32 is expected where ncnn runs, got uint8"):
        opened(replace(bundle, input_dtype="uint8"))
    (tmp_path / "model.ncnn.bin").unlink()
    with pytest.raises(UsageError, match=r"deploy.yaml: ncnn: .*model.ncnn.bin"):
        opened(bundle)


def test_a_bundle_that_says_no_size_is_refused(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=r"Deploy\.input_shape: the size of .* is expected"):
        opened(replace(bundle, input_shape=[-1, 3, -1, -1]))


def test_odd_sides_are_right(tmp_path: Path) -> None:
    """Its own images have rows that are padded to 16 bytes."""
    batch = noise(1, 3, 9, 31)
    got = opened(make_bundle(tmp_path, (1, 3, 9, 31)), threads=1).run(batch)
    np.testing.assert_allclose(got, convolved(batch), rtol=0, atol=1e-4)


def test_a_padding_without_a_mode_is_converted(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    file = write_onnx(tmp_path / "net.onnx", SIDES)
    model = onnx.load(str(file))
    pads = onnx.numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads")
    model.graph.initializer.append(pads)
    convolution = model.graph.node[0]
    convolution.input[0] = "padded"
    del convolution.attribute[:]
    model.graph.node.insert(0, onnx.helper.make_node("Pad", ["x", "pads"], ["padded"]))
    onnx.save(model, str(file))
    bundle = bundle_of(file)
    batch = noise(*SIDES)
    got = opened(bundle, threads=1).run(batch)
    np.testing.assert_allclose(got, convolved(batch), rtol=0, atol=1e-4)


def test_rows_that_are_taken_several_times_are_a_resize(tmp_path: Path) -> None:
    """So a pooled map is upsampled in the exported graphs; ncnn gathers nothing."""
    onnx = pytest.importorskip("onnx")
    file = write_onnx(tmp_path / "net.onnx", SIDES)
    model = onnx.load(str(file))
    model.graph.node[0].output[0] = "small"
    for axis, (source, target) in ((2, ("small", "tall")), (3, ("tall", "y"))):
        rows = onnx.numpy_helper.from_array(np.arange(SIDES[axis] * 2) // 2, f"rows{axis}")
        model.graph.initializer.append(rows)
        words = [source, f"rows{axis}"]
        model.graph.node.append(onnx.helper.make_node("Gather", words, [target], axis=axis))
    for dim in model.graph.output[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = dim.dim_param * 2
    onnx.save(model, str(file))
    bundle = bundle_of(file)
    batch = noise(*SIDES)
    expected = convolved(batch).repeat(2, axis=2).repeat(2, axis=3)
    got = opened(bundle, threads=1).run(batch)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", ["half_pixel", "align_corners"])
def test_logits_are_upsampled_in_the_graph(mode: str, tmp_path: Path) -> None:
    """In the form that Paddle's converter writes: empty roi and scales, and sizes."""
    onnx = pytest.importorskip("onnx")
    file = write_onnx(tmp_path / "net.onnx", SIDES)
    model = onnx.load(str(file))
    model.graph.node[0].output[0] = "small"
    empty, sizes = np.zeros(0, np.float32), np.array([1, 8, 128, 256])
    for name, values in (("roi", empty), ("scales", empty), ("sizes", sizes)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    words = {"coordinate_transformation_mode": mode, "mode": "linear", "exclude_outside": 0}
    words |= {"cubic_coeff_a": -0.75, "nearest_mode": "round_prefer_floor"}
    names = ["small", "roi", "scales", "sizes"]
    model.graph.node.append(onnx.helper.make_node("Resize", names, ["y"], "Resize_1", **words))
    onnx.save(model, str(file))
    batch = noise(*SIDES)
    expected = resize_logits(convolved(batch)[0], (256, 128), mode == "align_corners")
    got = opened(bundle_of(file), threads=1).run(batch)
    np.testing.assert_allclose(got[0], expected, rtol=0, atol=1e-4)


def test_an_output_that_is_reshaped_last_has_no_axis_too_many(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    file = write_onnx(tmp_path / "net.onnx", SIDES)
    model = onnx.load(str(file))
    model.graph.node[0].output[0] = "z"
    shape = onnx.numpy_helper.from_array(np.array([1, 8, 32, 128]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node("Reshape", ["z", "shape"], ["y"]))
    onnx.save(model, str(file))
    bundle = bundle_of(file)
    batch = noise(*SIDES)
    expected = convolved(batch).reshape(1, 8, 32, 128)
    np.testing.assert_allclose(opened(bundle, threads=1).run(batch), expected, rtol=0, atol=1e-4)


def test_it_says_what_runs(bundle: Bundle) -> None:
    spec = RuntimeSpec("ncnn", threads=2, streams=2)
    told = open_engine(bundle, spec).describe()
    assert (told.name, told.device, told.precision) == ("ncnn", "cpu", "fp32")
    assert told.cpu_threads == 2 and told.streams == 2
    assert told.kernels["Convolution"] == 1 and told.kernel_precisions == {"fp32": 1}
    assert spec.shortfall(told) == ""
    in_half = replace(told, precision="fp16", kernel_precisions={"fp16": 1})
    assert spec.shortfall(in_half) == "fp32 was asked for, and 1 fp16 kernels run"


@pytest.mark.skipif(not has_bf16(), reason="this CPU has no bfloat16")
def test_bf16_is_proven_by_what_the_layers_leave(bundle: Bundle) -> None:
    assert_bf16_is_proven(bundle, "ncnn")


@pytest.mark.skipif(not has_bf16(), reason="this CPU has no bfloat16")
def test_groups_of_several_outputs_are_refused_in_bf16(tmp_path: Path) -> None:
    """As in BiSeNetV2, whose features were of the order of 1e35."""
    onnx = pytest.importorskip("onnx")
    file = write_onnx(tmp_path / "net.onnx", SIDES)
    model = onnx.load(str(file))
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("group", 3))
    weights = np.random.default_rng(0).standard_normal((18, 1, 3, 3)).astype(np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 18
    onnx.save(model, str(file))
    bundle = bundle_of(file)
    assert opened(bundle, threads=1).run(noise(*SIDES)).shape == (1, 18, 64, 64)
    with pytest.raises(UsageError, match="in groups of several outputs: take ncnn"):
        opened(bundle, precision="bf16")


def test_several_threads_may_run_at_once(bundle: Bundle) -> None:
    engine = opened(bundle, threads=2, streams=2)
    batches = [noise(1, *SIDES[1:]) * factor for factor in range(1, 7)]
    with ThreadPoolExecutor(4) as pool:
        for batch, got in zip(batches, pool.map(engine.run, batches), strict=True):
            np.testing.assert_allclose(got, convolved(batch), rtol=0, atol=1e-3)


def test_another_size_is_refused(bundle: Bundle) -> None:
    with pytest.raises(DataError, match="exported for inputs of 64x64"):
        opened(bundle).run(noise(1, 3, 64, 96))


@pytest.mark.parametrize("suffix", [".param", ".bin"])
def test_a_file_that_is_no_graph(tmp_path: Path, suffix: str) -> None:
    bundle = make_bundle(tmp_path)
    (tmp_path / "model.ncnn.param").with_suffix(suffix).write_bytes(b"garbage")
    with pytest.raises(UsageError, match=rf"ncnn cannot load it: model\.ncnn\{suffix}") as caught:
        opened(bundle)
    assert "\n" not in str(caught.value)


def test_what_ncnn_prints_is_in_the_error(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    bundle = make_bundle(tmp_path)
    file = tmp_path / "model.ncnn.param"
    file.write_text(file.read_text("utf-8").replace("Convolution ", "Unheard_of  ", 1), "utf-8")
    with pytest.raises(UsageError, match=r"no file of this ncnn's: layer Unheard_of not exists"):
        opened(bundle)
    assert capfd.readouterr() == ("", "")


def test_a_bundle_without_such_a_graph(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"export it with export_model\.py --ncnn True"):
        opened(bundle_for_onnx(write_onnx(tmp_path / "net.onnx")))
