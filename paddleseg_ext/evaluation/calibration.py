"""The run of `calibrate`: temperatures for a bundle's logits, fitted and judged on pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.files import atomic_path, write_json
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.options import CheckedOptions, option, switch
from paddleseg_ext.evaluation.drawn_pixels import DrawnPixels, pixels_of_images
from paddleseg_ext.evaluation.unknown_objects import class_statistics, measure_unknown
from paddleseg_ext.images.samples import collect_samples
from paddleseg_ext.inference.bundle import Bundle, record_calibration, record_class_statistics
from paddleseg_ext.inference.calibration import Calibration
from paddleseg_ext.inference.pipeline import SampleLike
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.scoring.bootstrap import CONFIDENCE
from paddleseg_ext.scoring.calibration_intervals import bootstrap_calibration
from paddleseg_ext.scoring.reliability import (
    CalibrationScores,
    Floats,
    calibration_scores,
    fit_class_temperatures,
    fit_temperature,
    reliability,
    risk_by_coverage,
    softmax_rows,
)

RESULT, PICTURE = "calibration.json", "calibration.png"
SHOWN = ("ece", "classwise_ece", "brier", "nll", "aurc")  # on the terminal


@dataclass(frozen=True)
class CalibrateOptions(CheckedOptions):
    """Options of `calibrate`: the values to fit, and the folder of the figures."""

    save_dir: Path = option(Path("output/calibrate"), "folder of the figures")
    per_class: bool = switch("fit a temperature for each predicted class, in place of one for all")
    resamples: int = option(1000, "draws of images for the intervals of the figures", at_least=1)
    train_data: Path | None = option(
        None,
        "labelled images of the training: also store each class's statistics of the largest logit, "
        "which infer --save_familiarity needs",
        metavar="LIST",
    )
    unknown_data: Path | None = option(
        None,
        "images with objects that training never saw, whose label is the value `classes.unknown` "
        "(else 254): also measure how well they are noticed",
        metavar="LIST",
    )


def labelled_for(
    bundle: Bundle, samples: Sequence[SampleLike], source: str = "--data"
) -> list[SampleLike]:
    """The samples that have labels.

    Args:
        bundle: to be calibrated.
        samples: held-back images.
        source: of the samples, for messages.

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
    labelled = _with_labels(samples, source)
    if len(labelled) < 2:
        raise UsageError(
            f"{source}: two or more lines 'image label' are expected, one half to fit and one to "
            f"judge, got {len(labelled)}"
        )
    return labelled


def _with_labels(samples: Sequence[SampleLike], source: str) -> list[SampleLike]:
    """The samples that have labels; a warning says how many have none."""
    labelled = [sample for sample in samples if sample.label is not None]
    if labelled and len(labelled) < len(samples):
        left_out = len(samples) - len(labelled)
        warn(f"{source}: {left_out} of {len(samples)} images have no label and are left out")
    return labelled


def calibrate(
    predictor: Predictor, samples: Sequence[SampleLike], options: CalibrateOptions
) -> Calibration:
    """Fit temperatures on the first half of the samples and judge them on the second.

    They are written into the bundle where they lower the negative log-likelihood of the second
    half, and the figures into `calibration.json` and `calibration.png`.

    Raises:
        UsageError: see `labelled_for` and `labelled_of`.
        DataError: the first image or label that cannot be read.
        CheckFailed: the second half is no better for it; the bundle's temperature is as it was.
    """
    bundle = predictor.bundle
    if bundle is None:
        raise UsageError("calibrate: a bundle is expected; export_model.py makes one")
    labelled = labelled_for(bundle, samples)
    train = labelled_of(options.train_data, "--train_data")
    unknown = labelled_of(options.unknown_data, "--unknown_data")
    half = len(labelled) // 2
    fitted = pixels_of_images(predictor, labelled[:half], "--data, first half")
    judged = pixels_of_images(predictor, labelled[half:], "--data, second half")
    temperature = fit_temperature(fitted.logits, fitted.labels)
    by_class: list[float] = []
    if options.per_class:
        by_class = fit_class_temperatures(fitted.logits, fitted.labels, temperature)
    judgement = _judge(judged, temperature, by_class)
    record = _record(temperature, by_class, fitted, judged, judgement)
    more = _about_unknown(predictor, bundle, train, unknown, options.resamples)
    judgement.write(record, judged, options, more)
    if judgement.after.nll >= judgement.before.nll:
        raise CheckFailed(
            f"{bundle.deploy_file}: {_words(record)} is no better on the images that the fit did "
            "not see; the bundle's temperature is as it was"
        )
    record_calibration(bundle, record)
    return record


@dataclass(frozen=True)
class _Judgement:
    """The verdict of the second half.

    Attributes:
        probabilities: (N, C) before and after.
        common: scores of one temperature for all classes, where each class has its own.
        own_temperature: the one that the second half itself would take.
        own_ece: its error there.
    """

    probabilities: tuple[Floats, Floats]
    before: CalibrationScores
    after: CalibrationScores
    common: CalibrationScores | None
    own_temperature: float
    own_ece: float

    def write(
        self,
        record: Calibration,
        judged: DrawnPixels,
        options: CalibrateOptions,
        more: Mapping[str, Any],
    ) -> None:
        """Log the figures and write the two files; `more` goes into the JSON."""
        intervals = bootstrap_calibration(*self.probabilities, judged, options.resamples)
        result: dict[str, Any] = {
            "record": record.to_dict(),
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "intervals": {
                name: {key: each.to_dict() for key, each in of_score.items()}
                for name, of_score in intervals.items()
            },
            "of_the_judged_images": {"temperature": self.own_temperature, "ece": self.own_ece},
            **more,
        }
        if self.common is not None:
            result["one_temperature"] = self.common.to_dict()
        write_json(options.save_dir / RESULT, result)
        _draw_picture(self.probabilities, judged.labels, options.save_dir / PICTURE)
        log(
            f"{_words(record)} of {record.images} images; on {record.judged_images} others, with "
            f"{CONFIDENCE:.0%} intervals over images:"
        )
        for name in SHOWN:
            before, after, ratio = (intervals[name][key] for key in ("before", "after", "ratio"))
            log(f"  {name}: {before.words()} -> {after.words()}, ratio {ratio.words()}")
        if self.common is not None:
            log(f"  one temperature: ECE {self.common.ece:.4f}, NLL {self.common.nll:.4f}")
        if 2 * self.after.ece > self.before.ece:
            log(
                "ECE is not halved: one temperature fitted on the judged images themselves, "
                f"{self.own_temperature:.4f}, leaves {self.own_ece:.4f}; {PICTURE} shows where"
            )


def _about_unknown(
    predictor: Predictor,
    bundle: Bundle,
    train: Sequence[SampleLike],
    unknown: Sequence[SampleLike],
    resamples: int,
) -> dict[str, Any]:
    """The figures of training images and of unknown objects, by the keys of the JSON."""
    found: dict[str, Any] = {}
    statistics = bundle.class_statistics
    if train:
        statistics = class_statistics(predictor, train)
        found["class_statistics"] = statistics.to_dict()
    if unknown:
        found["unknown"] = measure_unknown(predictor, unknown, statistics, resamples)
    if train and statistics is not None:
        record_class_statistics(bundle, statistics)  # where nothing was refused
    return found


def labelled_of(path: Path | None, flag: str) -> list[SampleLike]:
    """The samples of a list that have labels; none where no list is given.

    Raises:
        UsageError: the list has none.
    """
    if path is None:
        return []
    labelled = _with_labels(collect_samples(path), f"{flag}: {path}")
    if not labelled:
        raise UsageError(f"{flag}: {path} has no image with a label")
    return labelled


def _judge(judged: DrawnPixels, temperature: float, by_class: Sequence[float]) -> _Judgement:
    labels = judged.labels
    chosen = np.array(by_class)[judged.best] if by_class else temperature
    before, after = softmax_rows(judged.logits), softmax_rows(judged.logits, chosen)
    common = None
    if by_class:
        common = calibration_scores(softmax_rows(judged.logits, temperature), labels)
    own = fit_temperature(judged.logits, labels)
    own_scores = calibration_scores(softmax_rows(judged.logits, own), labels)
    scores = (calibration_scores(before, labels), calibration_scores(after, labels))
    return _Judgement((before, after), *scores, common, own, own_scores.ece)


def _record(
    temperature: float,
    by_class: list[float],
    fitted: DrawnPixels,
    judged: DrawnPixels,
    judgement: _Judgement,
) -> Calibration:
    return Calibration(
        temperature=temperature,
        class_temperatures=by_class,
        images=fitted.num_images,
        pixels=len(fitted.labels),
        judged_images=judged.num_images,
        judged_pixels=len(judged.labels),
        ece_before=judgement.before.ece,
        ece_after=judgement.after.ece,
        nll_before=judgement.before.nll,
        nll_after=judgement.after.nll,
    )


def _words(record: Calibration) -> str:
    if not record.class_temperatures:
        return f"temperature {record.temperature:.4f}"
    each = ", ".join(f"{value:.3f}" for value in record.class_temperatures)
    return f"temperatures {each}"


def _draw_picture(probabilities: Sequence[Floats], labels: NDArray[np.integer], path: Path) -> None:
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
