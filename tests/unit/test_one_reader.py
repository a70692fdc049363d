"""Every reader sees the same pixels of a file, or refuses it with the same line.

One array in every form that Pillow and OpenCV write, with every orientation tag, through training
(ours and PaddleSeg's data sets), validation, the predictor that `infer`, `predict` and `val` run,
and the service. Ray's worker calls the same `decode_image` (tests/unit/deploy/test_ray_batch.py).
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.config import check_config
from paddleseg_ext.data.build import build_dataset
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.serving.images import FORMATS, ImageLimits, Refused, decode_upload
from tests.hostile_images import SIGNATURE, chunk

PIXELS = np.random.default_rng(7).integers(0, 256, (16, 24, 4), np.uint8)
TAGGED = ("JPEG", "PNG", "WEBP", "TIFF")


class Nothing(Engine):
    """A network that is never asked."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        raise AssertionError("nothing is predicted here")

    def describe(self) -> RuntimeReport:
        return RuntimeReport("nothing")


def forms() -> Iterator[tuple[str, bytes]]:
    """(name, content) of every form."""
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "JPEG2000"):
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"):
            image = Image.fromarray(PIXELS[..., :3]).convert("L" if mode in ("I;16", "F") else mode)
            if mode in ("I;16", "F"):
                dtype = np.uint16 if mode == "I;16" else np.float32
                image = Image.fromarray(np.asarray(image).astype(dtype) * 257)
            for tag in range(1, 9) if kind in TAGGED and mode in ("L", "RGB") else (1,):
                exif = Image.Exif()
                exif[0x0112] = tag
                options: dict[str, Any] = {"tiffinfo": {0x0112: tag}} if kind == "TIFF" else {}
                options |= {"exif": exif} if kind in TAGGED and kind != "TIFF" else {}
                content = io.BytesIO()
                try:
                    image.save(content, kind, **options)
                except (OSError, ValueError, KeyError):
                    continue
                yield f"{kind}-{mode}-{tag}", content.getvalue()
    for suffix in (".png", ".jpg", ".webp", ".bmp", ".tif", ".ppm", ".hdr", ".ras"):
        for dtype in ("u1", "u2", "f4", "f8"):
            for channels in (1, 3, 4):
                pixels = np.squeeze(PIXELS[..., :channels]).astype(dtype)
                try:
                    done, encoded = cv2.imencode(suffix, pixels)
                except cv2.error:
                    continue
                if done:
                    yield f"opencv-{suffix[1:]}-{dtype}-{channels}", encoded.tobytes()


FORMS = dict(forms())


def dataset(kind: str, path: Path, orientation: Orientation, section: str) -> Any:
    (path.parent / "list.txt").write_text(f"{path.name} label.png\n")
    spec = {"type": kind, "dataset_root": str(path.parent), "num_classes": 3}
    mode = section.removesuffix("_dataset")
    listed = str(path.parent / "list.txt")
    keep = {"type": "Normalize", "mean": [0, 0, 0], "std": [1, 1, 1]}
    spec |= {"mode": mode, f"{mode}_path": listed, "transforms": [keep]}
    raw = {section: spec, "orientation": orientation}
    return build_dataset(check_config(raw, path.parent / "net.yml"), section)


def trained(kind: str, section: str) -> Callable[[Path, Orientation], np.ndarray]:
    def read(path: Path, orientation: Orientation) -> np.ndarray:
        Image.new("L", (24, 16)).save(path.parent / "label.png")
        each = dataset(kind, path, orientation, section)
        if kind == "ListDataset":
            each.samples = [Sample(path, None, "a")]
        image = each[0]["img"].transpose(1, 2, 0)
        return np.rint(image * 255).astype(np.uint8)

    return read


def predicted(path: Path, orientation: Orientation) -> np.ndarray:
    table = generic_table(3)
    predictor = Predictor(Nothing(), Preprocess([], orientation=orientation), Postprocess(), table)
    from paddleseg_ext.inference.pipeline import _load

    loaded = _load(Sample(path, None, "a"), predictor, None)
    if loaded.prepared is None:
        raise DataError(str(loaded.error))
    return loaded.prepared.tensor.transpose(1, 2, 0).astype(np.uint8)


def served(path: Path, orientation: Orientation) -> np.ndarray:
    try:
        limits = ImageLimits(1 << 20, 1 << 20)
        return decode_upload(path.read_bytes(), limits, Preprocess([]), orientation)
    except Refused as error:
        raise DataError(error.sentence) from None


READERS = {
    "training": trained("ListDataset", "train_dataset"),
    "validation": trained("ListDataset", "val_dataset"),
    "PaddleSeg's training": trained("Dataset", "train_dataset"),
    "infer": predicted,
    "service": served,
}


@pytest.mark.parametrize("orientation", ["stored", "upright"])
@pytest.mark.parametrize("form", FORMS)
def test_every_reader_reads_the_same(form: str, orientation: Orientation, tmp_path: Path) -> None:
    pytest.importorskip("paddleseg")
    path = tmp_path / "image.any"
    path.write_bytes(FORMS[form])
    found: dict[str, np.ndarray | str] = {}
    for name, read in READERS.items():
        try:
            found[name] = read(path, orientation)
        except DataError as error:
            found[name] = str(error).replace(str(path), "the image")
    served_here = bool({*FORMATS, "png", "jpg", "webp", "bmp"} & set(form.split("-")[:2]))
    first = found["training"]
    for name, each in found.items():
        if name == "service" and not served_here:
            assert isinstance(each, str) and "an image file is expected" in each
        elif isinstance(first, str):
            assert isinstance(each, str) and each == first, name
        else:
            np.testing.assert_array_equal(each, first, name)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("kind", ["Dataset", "ListDataset"])
def test_labels_of_few_bits_are_trained_on_as_stored(kind: str, bits: int, tmp_path: Path) -> None:
    """PaddleSeg's own reading multiplies them by 85 and 17."""
    pytest.importorskip("paddleseg")
    stored = Image.fromarray(np.arange(24 * 16, dtype=np.uint8).reshape(16, 24) % 3)
    row_bytes = 24 * bits // 8
    packed = b"".join(
        b"\0" + int("".join(f"{v:0{bits}b}" for v in row), 2).to_bytes(row_bytes, "big")
        for row in np.asarray(stored).tolist()
    )
    header = struct.pack(">IIBBBBB", 24, 16, bits, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(packed))
    content = SIGNATURE + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")
    Image.fromarray(PIXELS[..., :3]).save(tmp_path / "a.png")
    (tmp_path / "label.png").write_bytes(content)
    label = dataset(kind, tmp_path / "a.png", "stored", "train_dataset")[0]["label"]
    np.testing.assert_array_equal(label, np.asarray(stored))
