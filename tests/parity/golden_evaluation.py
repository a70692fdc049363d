"""Golden cases of kind "evaluation": a protocol run on a tiny network, described by `meta.json`."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.inference.preprocess import Geometry, Preprocess, Step
from paddleseg_ext.published.golden import FAILED, PASSED, CaseResult
from paddleseg_ext.published.golden_data import GoldenCase
from paddleseg_ext.scoring.confusion import ConfusionMatrix
from paddleseg_ext.scoring.metrics import summarize
from paddleseg_ext.scoring.protocols import PROTOCOLS, Protocol, make_protocol
from tests.engines import FakeEngine, predictor_of

from .golden_inputs import IGNORE, load_generator, make_labels

NEAR_TIES_ALLOWED = 10  # where the case does not say how many pixels are undecided
IMAGENET = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# `hist` is exact; the scores derived from it come from the originals in float32.
RELATIVE = 1e-6
F1_RELATIVE = 1e-4


class TinyNetwork(FakeEngine):
    """relu(1x1 conv), 3x3 conv of stride 8, bilinear back to the input's size."""

    def __init__(self, state: dict[str, np.ndarray]):
        import paddle

        self._state = {key: paddle.to_tensor(value) for key, value in state.items()}

    def run(self, batch: np.ndarray) -> np.ndarray:
        import paddle
        from paddle.nn import functional as F

        state = self._state
        images = paddle.to_tensor(np.ascontiguousarray(batch))
        y = F.relu(F.conv2d(images, state["mix.weight"], state["mix.bias"]))
        z = F.conv2d(y, state["cls.weight"], state["cls.bias"], stride=8, padding=1)
        return F.interpolate(z, batch.shape[2:], mode="bilinear", align_corners=False).numpy()


@dataclass(frozen=True)
class Outcome:
    """Difference between our label maps and scores and the original's."""

    different_pixels: int
    allowed_pixels: int
    score_difference: float

    @property
    def passed(self) -> bool:
        return self.different_pixels <= self.allowed_pixels and (
            self.different_pixels > 0 or self.score_difference <= RELATIVE
        )


def protocol_of(meta: dict[str, Any]) -> Protocol:
    """The named protocol that the case was made with."""
    repo, crop, flip = meta["source"]["repo"], meta.get("crop"), bool(meta.get("flip"))
    scales = meta.get("scales")
    if meta.get("mode") in ("demo", "demo_video"):
        return PROTOCOLS[f"coincheung_{meta['mode']}"]
    if repo == "CoinCheung/BiSeNet":
        protocol = PROTOCOLS["msf" if flip else "ss"]
        if crop:
            protocol = make_protocol("mscf" if flip else "ssc", crop_size=crop[::-1])
        # Other scales than the named ones: the arithmetic is what is checked.
        return replace(protocol, scales=tuple(scales), flip=flip)
    if repo == "MichaelFan01/STDC-Seg":
        return replace(PROTOCOLS["scale_0.5"], scales=(meta["scale"],), flip=flip)
    if repo == "ycszen/TorchSeg":
        return make_protocol("torchseg", scales, flip, crop_size=[crop, crop])
    if meta["mode"] == "slide":
        return make_protocol("mmseg_slide", scales, flip, crop[::-1], meta["stride"][::-1])
    return make_protocol("mmseg_whole", scales, flip)


def run_evaluation(case: GoldenCase) -> CaseResult:
    """Compare a protocol's label maps and scores."""
    outcome = run_case(case.directory, load_generator(case.directory.parent))
    note = f"{outcome.different_pixels} of {outcome.allowed_pixels} allowed pixels differ"
    status = PASSED if outcome.passed else FAILED
    return CaseResult(case.name, status, outcome.score_difference, note)


def run_case(directory: Path, generator: ModuleType) -> Outcome:
    """Predict and score the case's images by its protocol."""
    manifest, meta, expected = generator.load_fixture(str(directory))
    network = TinyNetwork(generator.make_state_dict(manifest, meta["weights"]["seed"]))
    labels = make_labels(generator, meta["labels"])
    images = generator.make_image(
        meta["images"]["shape"], meta["images"]["seed"], meta["images"]["block"]
    )
    preprocess = Preprocess([])
    if meta["source"]["repo"] == "ycszen/TorchSeg":
        images = np.clip(48 * images + 120, 0, 255).astype(np.uint8).astype(np.float32)
        preprocess = Preprocess([IMAGENET])
    num_classes = meta["labels"]["n_classes"]
    predictor = by_protocol(predictor_of(network, num_classes, preprocess), protocol_of(meta))
    label_hw, input_hw = labels.shape[1:], images.shape[2:]
    steps = () if label_hw == input_hw else (Step("resize", label_hw),)
    geometry = Geometry(label_hw, input_hw, steps)

    matrix = ConfusionMatrix(num_classes, IGNORE)
    different = 0
    for image, label, theirs in zip(images, labels, expected["preds"], strict=True):
        ran = predictor.run(image[None], [geometry])
        ours = predictor.postprocess.label_map(ran.outputs[0], ran.geometries[0])
        different += int((ours != theirs).sum())
        matrix.update(ours, label)
    allowed = meta.get("pixels_with_margin_below_1e_5", NEAR_TIES_ALLOWED)
    if different == 0:
        np.testing.assert_array_equal(matrix.counts, expected["hist"])
    return Outcome(different, allowed, score_difference(matrix.counts, meta, expected))


def score_difference(counts: np.ndarray, meta: dict[str, Any], expected: dict) -> float:
    """The largest relative difference of the IoU scores that the case states.

    CoinCheung's F1 scores add constants (1, 1e-6) to their denominators; ours do not, so they are
    only asserted to be near.
    """
    plain = summarize(counts, "skip")
    stated = {"miou_plain": plain.mean_iou}
    ruled = summarize(counts, "smooth") if "+ 1" in meta.get("miou_formula", "") else plain
    stated |= {
        "miou": ruled.mean_iou,
        "fw_miou": ruled.frequency_weighted_iou,
    }
    for key, f1 in (("macro_f1", plain.mean_dice), ("micro_f1", plain.accuracy)):
        np.testing.assert_allclose(f1, meta.get(key, f1), rtol=F1_RELATIVE)
    pairs = [(value, meta[key]) for key, value in stated.items() if key in meta]
    pairs += list(zip(plain.class_iou, expected["iou_plain"], strict=True))
    return max(abs(ours - theirs) / max(abs(theirs), 1e-12) for ours, theirs in pairs)
