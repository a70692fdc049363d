"""Golden cases of kind "preprocess": from a picture's bytes to the network's input."""

import hashlib

import numpy as np

from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.published.golden import FAILED, PASSED, CaseResult
from paddleseg_ext.published.golden_data import GoldenCase, stored_part
from paddleseg_ext.scoring.protocols import PROTOCOLS
from tests.engines import predictor_of

from .golden_evaluation import IMAGENET, TinyNetwork
from .golden_inputs import load_generator

TOLERANCE = 5e-5
NUM_CLASSES = 7
CITYSCAPES = {
    "type": "Normalize",
    "mean": [0.3257, 0.3690, 0.3223],
    "std": [0.2112, 0.2148, 0.2115],
}
RESIZE = {"type": "Resize", "target_size": [512, 512], "interp": "PILLOW_LINEAR"}


class RecordingNetwork(TinyNetwork):
    """The tiny network of the evaluation cases; keeps the input that it saw."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.seen = batch
        return super().run(batch)


def make_picture(case: GoldenCase) -> np.ndarray:
    """The case's picture, (H, W, 3) uint8 RGB."""
    spec = case.meta["image"]
    generator = load_generator(case.directory.parent)
    noise = generator.make_image((1, 3, spec["height"], spec["width"]), spec["seed"], spec["block"])
    pixels = np.clip(np.rint(127.5 + 50 * noise), 0, 255).astype(np.uint8)
    picture = np.ascontiguousarray(pixels[0].transpose(1, 2, 0))
    assert hashlib.sha256(picture.tobytes()).hexdigest() == case.meta["image_sha256"]
    return picture


def run_preprocess(case: GoldenCase) -> CaseResult:
    """Compare the network's input, and what else the case stores."""
    is_demo = case.meta["source"]["repo"] == "CoinCheung/BiSeNet"
    return _run_demo(case) if is_demo else _run_face_parsing(case)


def _run_demo(case: GoldenCase) -> CaseResult:
    generator = load_generator(case.directory.parent)
    network = RecordingNetwork(
        generator.make_state_dict(case.manifest, case.meta["weights"]["seed"])
    )
    predictor = predictor_of(network, NUM_CLASSES, Preprocess([CITYSCAPES]))
    predictor = by_protocol(predictor, PROTOCOLS["coincheung_demo"])
    label_map = predictor(make_picture(case)).label_map
    different = int((label_map != case.expected["argmax"].squeeze()).sum())
    result = _compare(case, network.seen)
    if different:
        return CaseResult(case.name, FAILED, result.largest, f"{different} pixels differ")
    return result


def _run_face_parsing(case: GoldenCase) -> CaseResult:
    picture = make_picture(case)
    resized, _ = Preprocess([RESIZE], input_dtype="uint8")(picture)
    digest = hashlib.sha256(np.ascontiguousarray(resized.transpose(1, 2, 0)).tobytes())
    if digest.hexdigest() != case.meta["resized_sha256"]:
        return CaseResult(case.name, FAILED, None, "the resized picture differs")
    tensor, _ = Preprocess([RESIZE, IMAGENET])(picture)
    return _compare(case, tensor[None])


def _compare(case: GoldenCase, tensor: np.ndarray) -> CaseResult:
    difference = float(np.abs(stored_part(tensor) - case.expected["input"]).max())
    return CaseResult(case.name, PASSED if difference <= TOLERANCE else FAILED, difference)
