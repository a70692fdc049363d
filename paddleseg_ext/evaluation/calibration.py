"""The run of `calibrate`: one temperature for a bundle's logits, fitted and judged on pixels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import CheckFailed, DataError, UsageError
from paddleseg_ext.common.files import atomic_path, write_json
from paddleseg_ext.common.log import log
from paddleseg_ext.common.progress import track
from paddleseg_ext.images.labels import ClassTable, decode_label
from paddleseg_ext.inference.bundle import Bundle, record_calibration
from paddleseg_ext.inference.calibration import Calibration
from paddleseg_ext.inference.pipeline import Prediction, SampleLike, StreamOptions
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.scoring.reliability import (
    calibration_scores,
    fit_temperature,
    reliability,
    risk_by_coverage,
    softmax_rows,
)

PIXELS = 100_000  # of each half of the images
RESULT, PICTURE = "calibration.json", "calibration.png"


@dataclass(frozen=True)
class _Pixels:
    """(N, C) float32 logits and (N,) uint8 labels of some images."""

    logits: NDArray[np.float32]
    labels: NDArray[np.uint8]
    images: int


def labelled_for(bundle: Bundle, samples: Sequence[SampleLike]) -> list[SampleLike]:
    """The samples that have labels.

    Raises:
        UsageError: fewer than two, or a bundle that does not return logits or has no Manifest.
    """
    if bundle.manifest is None:
        raise UsageError(
            f"{bundle.deploy_file} has no Manifest to keep a temperature in; export the network "
            "with export_model.py"
        )
    if bundle.output_op != "none":
        raise UsageError(
            f"{bundle.deploy_file}: a temperature divides logits, and the graph ends in "
            f"{bundle.output_op}; export it again with --output_op none"
        )
    labelled = [sample for sample in samples if sample.label is not None]
    if len(labelled) < 2:
        raise UsageError(f"--data: two or more labelled images are expected, got {len(labelled)}")
    return labelled


def calibrate(predictor: Predictor, samples: Sequence[SampleLike], save_dir: Path) -> Calibration:
    """Fit the temperature on the first half of the samples and judge it on the second.

    It is written into the bundle where it lowers the negative log-likelihood of the second half,
    and the figures into `calibration.json` and `calibration.png`.

    Raises:
        UsageError: see `labelled_for`.
        DataError: the first image or label that cannot be read.
        CheckFailed: the second half is no better for it; the bundle is as it was.
    """
    bundle = predictor.bundle
    if bundle is None:
        raise UsageError("calibrate: a bundle is expected; export_model.py makes one")
    labelled = labelled_for(bundle, samples)
    pixels = _draw(predictor, labelled)
    half = len(labelled) // 2
    fitted, judged = _joined(pixels[:half], "first"), _joined(pixels[half:], "second")
    temperature = fit_temperature(fitted.logits, fitted.labels)
    probabilities = [softmax_rows(judged.logits, t) for t in (1.0, temperature)]
    before, after = (calibration_scores(p, judged.labels) for p in probabilities)
    record = Calibration(
        temperature=temperature,
        images=fitted.images,
        pixels=len(fitted.labels),
        judged_images=judged.images,
        judged_pixels=len(judged.labels),
        ece_before=before.ece,
        ece_after=after.ece,
        nll_before=before.nll,
        nll_after=after.nll,
    )
    result = {"record": record.to_dict(), "before": before.to_dict(), "after": after.to_dict()}
    write_json(save_dir / RESULT, result)
    _draw_picture(probabilities, judged.labels, save_dir / PICTURE)
    log(
        f"temperature {temperature:.4f} of {fitted.images} images; on {judged.images} others: "
        f"ECE {before.ece:.4f} -> {after.ece:.4f}, class-wise ECE {before.classwise_ece:.4f} -> "
        f"{after.classwise_ece:.4f}, Brier {before.brier:.4f} -> {after.brier:.4f}, "
        f"NLL {before.nll:.4f} -> {after.nll:.4f}, AURC {before.aurc:.4f} -> {after.aurc:.4f}"
    )
    if after.nll >= before.nll:
        raise CheckFailed(
            f"{bundle.deploy_file}: temperature {temperature:.4f} is no better on the images that "
            "the fit did not see; the bundle is as it was"
        )
    record_calibration(bundle, record)
    return record


def _draw(predictor: Predictor, samples: Sequence[SampleLike]) -> list[_Pixels]:
    """Labelled pixels per image, drawn at random without repetition."""
    most = max(1, PIXELS // max(1, len(samples) // 2))
    finish = partial(_of_image, predictor=predictor, most=most)
    options = StreamOptions(keep_output=True, finish=finish, num_workers=1)
    found = []
    predictions: Iterable[Prediction] = predictor.stream(samples, options)
    for prediction in track(predictions, "calibrate", total=len(samples)):
        if prediction.error is not None:
            raise DataError(prediction.error)
        found.append(prediction.finished)
    return found


def _of_image(prediction: Prediction, predictor: Predictor, most: int) -> _Pixels:
    table: ClassTable = predictor.class_table
    sample, output, geometry = prediction.sample, prediction.output, prediction.geometry
    assert sample.label is not None and output is not None and geometry is not None
    logits = predictor.postprocess.full_logits(output, geometry)
    label = decode_label(sample.label, table)
    if label.shape != logits.shape[1:]:
        raise DataError(f"{sample.label}: a label of the image's size is expected")
    places = np.flatnonzero(label < table.num_classes)
    if len(places) > most:
        places = np.random.default_rng(len(places)).choice(places, most, replace=False)
    flat = logits.reshape(len(logits), -1)
    return _Pixels(np.ascontiguousarray(flat[:, places].T), label.ravel()[places], 1)


def _joined(parts: Sequence[_Pixels], which: str) -> _Pixels:
    labels = np.concatenate([part.labels for part in parts])
    if not len(labels):
        raise UsageError(f"--data: the {which} half of the images has no labelled pixel")
    return _Pixels(np.concatenate([part.logits for part in parts]), labels, len(parts))


def _draw_picture(
    probabilities: Sequence[NDArray[np.float64]], labels: NDArray[np.uint8], path: Path
) -> None:
    """Reliability diagram and risk-coverage curve, before and after."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    diagram, curve = figure.subplots(1, 2)
    diagram.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for name, values in zip(("before", "after"), probabilities, strict=True):
        confidence, is_right = values.max(axis=1), values.argmax(axis=1) == labels
        bins = reliability(confidence, is_right)
        shown = bins.pixels > 0
        title = f"{name}: ECE {bins.error():.4f}"
        diagram.plot(bins.confidence[shown], bins.accuracy[shown], marker="o", label=title)
        risks = risk_by_coverage(confidence, is_right)
        curve.plot(np.arange(1, len(risks) + 1) / len(risks), risks, label=name)
    diagram.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    curve.set(xlabel="coverage", ylabel="error rate of the surest pixels", xlim=(0, 1))
    for axes in (diagram, curve):
        axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
