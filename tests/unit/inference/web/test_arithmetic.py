"""The page's arithmetic, in node, beside the Python package's."""

import io
import json
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from engines import FakeEngine, predictor_of
from PIL import Image
from scipy.special import softmax as scipy_softmax

from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.images.functional import resize_logits
from paddleseg_ext.images.orientation import turn_upright
from paddleseg_ext.images.reading import decode_image
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.preprocess import Geometry, Preprocess
from paddleseg_ext.inference.web import folder as web
from paddleseg_ext.scoring.protocols import PROTOCOLS

NORMALIZE = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
TRANSFORMS: dict[str, list[dict[str, Any]]] = {
    "plain": [NORMALIZE],
    "down": [{"type": "Resize", "target_size": [40, 24]}, NORMALIZE],
    "half": [{"type": "Resize", "target_size": [48, 32]}, NORMALIZE],
    "up": [{"type": "Resize", "target_size": [201, 137]}, NORMALIZE],
    "nearest": [{"type": "Resize", "target_size": [61, 83], "interp": "NEAREST"}, NORMALIZE],
    "pillow": [{"type": "Resize", "target_size": [41, 90], "interp": "PILLOW_LINEAR"}, NORMALIZE],
    "pillow twice": [
        {"type": "ResizeByLong", "long_size": 77},
        {"type": "Resize", "target_size": [64, 32], "interp": "PILLOW_LINEAR"},
        NORMALIZE,
    ],
    "ratio": [
        {"type": "Resize", "target_size": [60, 90], "keep_ratio": True, "size_divisor": 16},
        NORMALIZE,
    ],
    "short": [{"type": "ResizeByShort", "short_size": 45, "max_size": 66}, NORMALIZE],
    "limited": [{"type": "LimitLong", "max_long": 50, "min_long": 10}, NORMALIZE],
    "padded": [
        {"type": "ResizeByLong", "long_size": 65},
        {"type": "Padding", "target_size": [96, 72], "im_padding_value": [127.5, 3, 0]},
        NORMALIZE,
    ],
}


def model_of(
    preprocess: Preprocess,
    output_op: str = "none",
    upsampling: str = "graph",
    native_stride: int = 0,
) -> dict:
    (_, reading), *transforms = preprocess.settings
    return {
        "transforms": [{"type": name} | values for name, values in transforms],
        "color_order": reading["color_order"],
        "channels": preprocess.channels,
        "input_dtype": str(preprocess.input_dtype),
        "output_op": output_op,
        "upsampling": upsampling,
        "native_stride": native_stride,
    }


def run(folder: Path, cases: list[tuple[dict, bytes]]) -> list[tuple[dict, bytes]]:
    """The answers of node to the cases, and the bytes that it wrote."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    web.write_node_scripts(folder)
    (folder / "images.js").write_bytes(web.static_file("images.js").read_bytes())
    (folder / "cases.json").write_text(json.dumps([job for job, _ in cases]))
    for number, (_, content) in enumerate(cases):
        (folder / f"{number}.in").write_bytes(content)
    program = Path(__file__).with_name("cases.mjs")
    done = subprocess.run([node, program, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = []
    for number, answer in enumerate(json.loads(done.stdout)):
        assert "error" not in answer, (cases[number][0], answer)
        results.append((answer, (folder / f"{number}.out").read_bytes()))
    return results


def picture(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)


@pytest.mark.parametrize("input_dtype", ["float32", "uint8"])
def test_tensors_are_equal(input_dtype: str, tmp_path: Path) -> None:
    cases, expected, names = [], [], []
    for name, transforms in TRANSFORMS.items():
        for size_hw in ((64, 96), (65, 33), (37, 81), (1, 50)):
            for order, channels in (("RGB", 3), ("BGR", 3), ("RGB", 1)):
                if input_dtype == "uint8":
                    transforms = [each for each in transforms if each["type"] != "Normalize"]
                used = transforms
                if channels == 1:
                    used = [{"type": "Normalize"} if t is NORMALIZE else t for t in transforms]
                preprocess = Preprocess(used, order, input_dtype, channels=channels)
                image = picture(size_hw)
                tensor, geometry = preprocess(image)
                height, width = size_hw
                job = {"kind": "prepare", "width": width, "height": height}
                cases.append((job | {"model": model_of(preprocess)}, image.tobytes()))
                expected.append((tensor, geometry))
                names.append(f"{name} {size_hw} {order} {channels}")
    for (answer, content), (tensor, geometry), name in zip(
        run(tmp_path, cases), expected, names, strict=True
    ):
        assert (answer["height"], answer["width"]) == geometry.network_hw, name
        steps = [
            ("resize" if s["isResize"] else "padding", (s["height"], s["width"]))
            for s in answer["steps"]
        ]
        assert steps == [(step.kind, step.before_hw) for step in geometry.steps], name
        got = np.frombuffer(content, input_dtype).reshape(tensor.shape)
        if min(geometry.original_hw) == 1 and input_dtype == "float32":  # OpenCV's own loop, there
            np.testing.assert_allclose(got, tensor, rtol=0, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(got, tensor, err_msg=name)


def scores(shape: tuple[int, ...], seed: int, kind: str) -> np.ndarray:
    """Random ones, whole numbers (`ties`), or classes that differ by rounding alone (`near`)."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape).astype(np.float32)
    if kind == "near":
        values = values[:1] * np.float32(1) + rng.integers(-2, 3, shape) * np.float32(2**-23)
    return np.round(values) if kind == "ties" else values.astype(np.float32)


def test_label_maps_are_equal(tmp_path: Path) -> None:
    """Where classes meet, where they tie, through resizes, padding and both upsamplings."""
    cases, expected, names = [], [], []
    for name in ("plain", "down", "up", "padded", "ratio"):
        for upsampling in ("graph", "half_pixel", "aligned"):
            for stride in (1, 4, 8):
                for kind in ("random", "ties", "near"):
                    preprocess = Preprocess(TRANSFORMS[name])
                    _, geometry = preprocess(picture((64, 96)))
                    size_hw = tuple(max(2, side // stride) for side in geometry.network_hw)
                    output = scores((5, *size_hw), stride, kind)
                    job = {"kind": "label_map", "classes": 5, "type": "float32"}
                    job |= {"height": size_hw[0], "width": size_hw[1]}
                    job |= {"prepared": {"width": 96, "height": 64}}
                    job |= {"model": model_of(preprocess, upsampling=upsampling)}
                    cases.append((job, output.tobytes()))
                    postprocess = Postprocess(upsampling=upsampling, sparse=False)
                    expected.append(postprocess.label_map(output, geometry))
                    names.append(f"{name} {upsampling} 1/{stride} {kind}")
    for (_, content), label_map, name in zip(run(tmp_path, cases), expected, names, strict=True):
        got = np.frombuffer(content, np.uint8).reshape(label_map.shape)
        np.testing.assert_array_equal(got, label_map, err_msg=name)


def test_confidence_is_that_of_infer(tmp_path: Path) -> None:
    """Of logits and probabilities, with a temperature or one for each class: one grey level."""
    cases, expected, names = [], [], []
    calibrations: list[dict[str, Any]] = [
        {"temperature": 1.0, "class_temperatures": []},
        {"temperature": 0.4, "class_temperatures": []},
        {"temperature": 9.0, "class_temperatures": [0.3, 2.0, 1.0, 0.5, 4.0]},
    ]
    ways = product(("plain", "down", "up", "padded"), ("graph", "aligned"), (1, 8), calibrations)
    for (name, upsampling, stride, calibration), op in product(ways, ("none", "softmax")):
        preprocess = Preprocess(TRANSFORMS[name])
        _, geometry = preprocess(picture((64, 96)))
        size_hw = tuple(max(2, side // stride) for side in geometry.network_hw)
        output = scores((5, *size_hw), stride, "random") * np.float32(3)
        if name == "plain" and stride == 1:  # interpolated, infinity is no number
            output[:, 0, 0], output[1, 0, 1] = (np.inf, 0, np.inf, 0, 0), 1e30
        if op == "softmax":
            output = scipy_softmax(np.nan_to_num(output, posinf=50), axis=0).astype(np.float32)
            calibration = calibrations[0]
        job = {"kind": "confidence", "classes": 5, "type": "float32"}
        job |= {"height": size_hw[0], "width": size_hw[1], "prepared": {"width": 96, "height": 64}}
        model = model_of(preprocess, op, upsampling) | {"calibration": calibration}
        cases.append((job | {"model": model}, output.tobytes()))
        found = Postprocess(op, upsampling=upsampling, **calibration).best(output, geometry)
        expected.append(np.rint(found.confidence * 255))
        names.append(f"{name} {upsampling} 1/{stride} {op} {calibration}")
    for (_, content), wanted, name in zip(run(tmp_path, cases), expected, names, strict=True):
        got = np.frombuffer(content, np.uint8).reshape(wanted.shape).astype(float)
        assert wanted.max() - wanted.min() > 100, name
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1, err_msg=name)


@pytest.mark.parametrize("name", ["ss", "scale_0.5", "scale_0.75"])
def test_one_look_of_a_protocol(name: str, tmp_path: Path) -> None:
    """The tensor at the protocol's size, and the label map of scores that come from there."""
    protocol = PROTOCOLS[name]
    preprocess = Preprocess([{"type": "ResizeByShort", "short_size": 50}, NORMALIZE])
    image = picture((61, 93))
    tensor, geometry = preprocess(image)
    height, width = protocol.scaled_hw(geometry.network_hw, protocol.scales[0])
    tensor = resize_logits(tensor, (width, height), protocol.align_corners)
    output = scores((5, height, width), 0, "random")
    target = geometry
    if name == "ss":
        target = Geometry(geometry.original_hw, geometry.original_hw)
    full = resize_logits(output, target.network_hw[::-1], protocol.align_corners)
    model = model_of(preprocess) | {"protocol": web.describe_protocol(protocol)}
    prepared = {"kind": "prepare", "height": 61, "width": 93, "model": model}
    job = {"kind": "label_map", "classes": 5, "type": "float32", "height": height, "width": width}
    job |= {"prepared": {"height": 61, "width": 93}, "model": model}
    (_, first), (_, second) = run(tmp_path, [(prepared, image.tobytes()), (job, output.tobytes())])
    np.testing.assert_array_equal(np.frombuffer(first, np.float32).reshape(tensor.shape), tensor)
    expected = Postprocess().label_map(full, target)
    np.testing.assert_array_equal(np.frombuffer(second, np.uint8).reshape(61, 93), expected)


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.8])
def test_bytes_are_scaled_first(scale: float, tmp_path: Path) -> None:
    """`half_resize`, at even and odd sides: tensors to the bit, labels but where two tie."""
    protocol = replace(PROTOCOLS["half_resize"], scales=(scale,))
    cases, tensors, sums = [], [], []
    for size_hw, order in product(((64, 96), (61, 93), (63, 95), (35, 6)), ("RGB", "BGR")):
        preprocess = Preprocess([NORMALIZE], order)
        image = picture(size_hw)
        engine = Recorder()
        predictor = by_protocol(predictor_of(engine, 5, preprocess), protocol)
        model = model_of(preprocess) | {"protocol": web.describe_protocol(protocol)}
        sizes = {"height": size_hw[0], "width": size_hw[1]}
        cases.append(({"kind": "prepare", "model": model} | sizes, image.tobytes()))
        prepared = predictor.prepare(image)
        (total,) = predictor.run(prepared.tensor[None], [prepared.geometry]).outputs
        tensors.append(engine.batch[0])
        job = {"kind": "label_map", "classes": 5, "type": "float32", "prepared": sizes}
        height, width = engine.batch.shape[2:]
        job |= {"height": height, "width": width, "model": model}
        cases.append((job, engine.output.tobytes()))
        sums.append(total)
    results = run(tmp_path, cases)
    for (_, content), tensor in zip(results[::2], tensors, strict=True):
        np.testing.assert_array_equal(np.frombuffer(content, np.float32), tensor.ravel())
    for (_, content), total in zip(results[1::2], sums, strict=True):
        got = np.frombuffer(content, np.uint8).reshape(total.shape[1:]).astype(int)
        assert (got != total.argmax(axis=0)).mean() < 0.01
        chosen = np.take_along_axis(total, got[None], axis=0)[0]
        np.testing.assert_allclose(chosen, total.max(axis=0), rtol=0, atol=1e-6)


class Recorder(FakeEngine):
    """Gives random scores, and keeps what it was given and gave."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.batch, self.output = batch, scores((1, 5, *batch.shape[2:]), 0, "random")
        return self.output.copy()  # which the softmax overwrites


def test_what_a_network_padded_is_cut_off(tmp_path: Path) -> None:
    cases, expected = [], []
    for name in ("plain", "down", "padded"):
        preprocess = Preprocess(TRANSFORMS[name])
        _, geometry = preprocess(picture((60, 90)))
        size_hw = tuple(side // 8 + 2 for side in geometry.network_hw)
        output = scores((5, *size_hw), 3, "random")
        job = {"kind": "label_map", "classes": 5, "type": "float32"}
        job |= {"height": size_hw[0], "width": size_hw[1]}
        job |= {"prepared": {"width": 90, "height": 60}}
        job |= {"model": model_of(preprocess, upsampling="half_pixel", native_stride=8)}
        cases.append((job, output.tobytes()))
        postprocess = Postprocess(upsampling="half_pixel", sparse=False, native_stride=8)
        expected.append(postprocess.label_map(output, geometry))
    for (_, content), label_map in zip(run(tmp_path, cases), expected, strict=True):
        np.testing.assert_array_equal(
            np.frombuffer(content, np.uint8).reshape(label_map.shape), label_map
        )


@pytest.mark.parametrize("kind", ["int32", "int64", "uint8"])
def test_class_ids_come_back_by_nearest(kind: str, tmp_path: Path) -> None:
    preprocess = Preprocess(TRANSFORMS["padded"])
    _, geometry = preprocess(picture((64, 96)))
    ids = np.random.default_rng(0).integers(0, 19, geometry.network_hw).astype(kind)
    job = {"kind": "label_map", "classes": 0, "type": kind, "model": model_of(preprocess, "argmax")}
    job |= {"height": ids.shape[0], "width": ids.shape[1], "prepared": {"width": 96, "height": 64}}
    ((_, content),) = run(tmp_path, [(job, ids.tobytes())])
    expected = Postprocess("argmax").label_map(ids, geometry)
    np.testing.assert_array_equal(np.frombuffer(content, np.uint8).reshape(64, 96), expected)


def encoded(array: np.ndarray, mode: str, **options: Any) -> bytes:
    content = io.BytesIO()
    picture = Image.fromarray(array) if mode in ("RGB", "RGBA", "L", "LA") else None
    if mode in ("1", "P"):
        picture = Image.fromarray(array).convert(mode)
    assert picture is not None
    picture.save(content, format="PNG", **options)
    return content.getvalue()


def test_pngs_have_the_pixels_of_the_one_reader(tmp_path: Path) -> None:
    """Alpha that hides colours, palettes, 1 to 16 bits, grey."""
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (21, 35, 4), dtype=np.uint8)
    deep = rng.integers(0, 1 << 16, (21, 35, 3), dtype=np.uint16)
    files = {
        "rgb": encoded(rgba[:, :, :3].copy(), "RGB"),
        "rgba": encoded(rgba, "RGBA"),
        "grey": encoded(rgba[:, :, 0].copy(), "L"),
        "grey with alpha": encoded(rgba[:, :, :2].copy(), "LA"),
        "two colours": encoded(rgba[:, :, :3].copy(), "1"),
        "palette": encoded(rgba[:, :, :3].copy(), "P"),
        "transparent palette": encoded(rgba[:, :, :3].copy(), "P", transparency=3),
        "16 bits": cv2.imencode(".png", deep)[1].tobytes(),
        "16 bits grey": cv2.imencode(".png", deep[:, :, 0])[1].tobytes(),
        "one pixel": encoded(rgba[:1, :1, :3].copy(), "RGB"),
    }
    for bits in (2, 4):
        levels = Image.fromarray(rgba[:, :, 0] >> (8 - bits))
        levels.putpalette(rng.integers(0, 256, 3 << bits, dtype=np.uint8).tobytes())
        content = io.BytesIO()
        levels.save(content, format="PNG", bits=bits)
        files[f"palette of {bits} bits"] = content.getvalue()
    cases = [({"kind": "decode"}, content) for content in files.values()]
    for (answer, data), (name, content) in zip(run(tmp_path, cases), files.items(), strict=True):
        expected = decode_image(content, name)
        assert (answer["height"], answer["width"]) == expected.shape[:2], name
        got = np.frombuffer(data, np.uint8).reshape(expected.shape)
        np.testing.assert_array_equal(got, expected, err_msg=name)


def test_interlaced_pngs(tmp_path: Path) -> None:
    """Adam7, of which neither OpenCV nor Pillow writes one: the passes, each with its filter 0."""
    rgb = picture((13, 18))
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    rows = b"".join(
        b"\0" + row.tobytes()
        for x, y, dx, dy in [*passes, (0, 1, 1, 2)]
        for row in rgb[y::dy, x::dx]
        if row.size
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 18, 13, 8, 2, 0, 0, 1)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    content += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode_image(content, "interlaced"), rgb)
    ((_, data),) = run(tmp_path, [({"kind": "decode"}, content)])
    np.testing.assert_array_equal(np.frombuffer(data, np.uint8).reshape(rgb.shape), rgb)


def test_label_maps_are_written_as_palette_pngs(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 256, (30, 41), dtype=np.uint8)
    job = {"kind": "encode", "width": 41, "height": 30}
    ((answer, content),) = run(tmp_path, [(job, ids.tobytes())])
    opened = Image.open(io.BytesIO(content))
    assert opened.mode == "P" and answer["again"]
    np.testing.assert_array_equal(np.asarray(opened), ids)


def test_orientation_tags_are_found_applied_and_taken_out(tmp_path: Path) -> None:
    """Taken out of the bytes, since browsers would apply them once more."""
    image = (np.arange(7 * 5 * 3) % 256).astype(np.uint8).reshape(5, 7, 3)
    cases, tags = [], []
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        for tag in range(10):
            exif, content = Image.Exif(), io.BytesIO()
            exif[0x0112] = tag
            options = {} if kind == "BMP" else {"exif": exif}
            Image.fromarray(image).save(content, format=kind, **options)
            cases.append(({"kind": "turn", "width": 7, "height": 5}, content.getvalue()))
            tags.append(tag if 1 <= tag <= 8 and kind != "BMP" else 1)
    for (answer, data), tag in zip(run(tmp_path, cases), tags, strict=True):
        expected = turn_upright(image, tag)
        assert (answer["tag"], answer["again"]) == (tag, 1)
        assert (answer["height"], answer["width"]) == expected.shape[:2]
        np.testing.assert_array_equal(
            np.frombuffer(data, np.uint8).reshape(expected.shape), expected
        )
