"""An INT8 graph for a bundle, made by calibration and judged by label maps."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import (
    atomic_directory,
    require_replaceable,
    require_writable,
    write_json,
)
from paddleseg_ext.common.flags import boolean, natural_int, positive_float, positive_int
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import CheckedOptions, option
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.bundle_protocol import network_inputs, protocol_of, rule_for_bundle
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.evaluation.trials import REFERENCE, Judging, Trial, new_size_share, run_trials
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.bundle import (
    DEPLOY_FILE,
    ONNX_FILE,
    ONNX_INT8_FILE,
    Bundle,
    read_bundle,
    write_deploy_yaml,
)
from paddleseg_ext.inference.engines.table import open_engine
from paddleseg_ext.inference.manifest import MODEL_FILES, PARAMS_FILE, Manifest
from paddleseg_ext.inference.model_card import CARD_FILE
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.inference.verified import Verified
from paddleseg_ext.inference.web.folder import prepare_web, write_web
from paddleseg_ext.quantization.graph import QuantizableGraph, import_quantizer
from paddleseg_ext.scoring.metrics import relative_error
from paddleseg_ext.scoring.verdict import Budget

REPORT = "quantization.json"
ENGINES_OF_INT8 = ("onnxruntime", "openvino", "paddle")
AUTO = "auto"
STEPS = 4
PERCENTILES = (100.0, 99.999, 99.99)  # that 'auto' tries
LEAST_PERCENTILE = 90.0
RANKED_IMAGES = 2  # of the calibration images, that each layer is tried on
TRIED_IMAGES = 8  # of the calibration images, where 'auto' looks at the whole graph
SHARE_OF_BUDGET = 0.8  # of the changed pixels that 'auto' aims at: the verdict is on other images
MOST_ERROR = 0.02  # of the logits, by one layer; 'auto' leaves what costs more in float
WHY_NOT_PADDLE = (
    "--backend paddle: Paddle 3.2.2 has no INT8 on a CPU that runs: its predictor takes "
    "enable_mkldnn_int8() and continues in fp32 (docs/quantization.md); use onnxruntime or openvino"
)


def _auto_or_count(text: str) -> int | str:
    return AUTO if text == AUTO else natural_int(text)


def _auto_or_boolean(text: str) -> bool | str:
    return AUTO if text == AUTO else boolean(text)


def _auto_or_percentile(text: str) -> float | str:
    return AUTO if text == AUTO else positive_float(text)


@dataclass(frozen=True)
class QuantizeOptions(CheckedOptions):
    """How a graph is quantised and judged."""

    backend: list[str] = option(
        ["onnxruntime"], "engines that shall run it", choices=ENGINES_OF_INT8
    )
    save_dir: Path = option(Path("output/inference_model_int8"), "folder of the new bundle")
    calibration_images: int = option(32, "images drawn from the list", parse=positive_int)
    seed: int = option(0, "of the drawing", parse=natural_int)
    percentile: float | str = option(
        AUTO,
        "share in percent of each activation's values that its range holds (100: all), or 'auto': "
        "see above",
        parse=_auto_or_percentile,
        metavar="P",
    )
    keep_float: int | str = option(
        AUTO,
        "leave the N most sensitive layers in float, or 'auto': see above",
        parse=_auto_or_count,
        metavar="N",
    )
    sensitivity: bool | str = option(
        AUTO,
        "measure each layer alone, on two of the calibration images; 'auto': where the budget "
        "needs it",
        parse=_auto_or_boolean,
        metavar="auto|True|False",
    )
    judge_images: int = option(
        64,
        "images of the verdict, from those that calibration did not see where there are some",
        parse=positive_int,
    )
    cpu_threads: int | None = option(
        None, "threads of a run (default: every core)", parse=positive_int
    )
    web: Path | None = option(
        None,
        "also write a folder with a page that runs both graphs in the browser (docs/web.md)",
        metavar="DIR",
    )
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        super().__post_init__()
        if "paddle" in self.backend:
            raise UsageError(WHY_NOT_PADDLE)
        if self.sensitivity not in (AUTO, True, False):
            raise UsageError(
                f"--sensitivity: '{AUTO}', True or False is expected, got '{self.sensitivity}'"
            )
        if self.keep_float not in (AUTO, 0) and not self.sensitivity:
            raise UsageError("--keep_float needs --sensitivity True, which ranks the layers")
        share = self.percentile
        if share != AUTO and not (
            isinstance(share, int | float) and LEAST_PERCENTILE <= share <= PERCENTILES[0]
        ):
            raise UsageError(
                f"--percentile: '{AUTO}' or a number from {LEAST_PERCENTILE:g} to 100 is expected, "
                f"got {share}"
            )


@dataclass(frozen=True)
class Sensitivity:
    """Cost of one layer when it alone is INT8.

    Attributes:
        error: root mean square of the logits' change over that of the logits.
        changed_pixels: share of the pixels whose class changes.
    """

    layer: str
    error: float
    changed_pixels: float


def quantize(
    bundle: Bundle, listed: Sequence[Sample], options: QuantizeOptions
) -> dict[str, Verified]:
    """Write a copy of the bundle with an INT8 graph, and judge it against the FP32 one.

    Args:
        bundle: one of `export` with an ONNX graph that ends in scores.
        listed: images; some calibrate, others judge.
        options: `budget` is that of INT8.

    Returns:
        Runtime (`onnxruntime_int8`, ...) -> its record, as in the new bundle.

    Raises:
        UsageError: the bundle, the folder or the options do not allow it.
        CheckFailed: the graph cannot be quantised.
    """
    if bundle.manifest is None or bundle.output_op == "argmax":
        raise UsageError(
            f"{bundle.deploy_file}: a bundle of export_model.py that ends in scores is expected "
            "(--output_op none): sensitivity and verdict need logits"
        )
    bundle.onnx_file()  # names the command that makes it, where there is none
    import_quantizer()
    if options.web is not None:
        prepare_web(options.web, bundle.preprocess(), options.save_dir)
    check_save_dir(options.save_dir, bundle)
    require_writable(options.save_dir.parent, "--save_dir")
    calibration, judged = divide(
        listed, options.calibration_images, options.judge_images, options.seed
    )
    with tempfile.TemporaryDirectory(prefix="quantize-") as work:
        write_quantized(bundle, calibration, options, Path(work))
    new = read_bundle(options.save_dir)
    _say_step(4, f"judged on {len(judged)} images by {', '.join(options.backend)}")
    trials = open_trials(bundle, new, options)
    run_trials(trials, REFERENCE, track(judged, "judge", total=len(judged)))
    share = new_size_share(new, listed)
    judging = Judging("quantize", options.cpu_threads, {"int8": options.budget}, share)
    reference = trials.pop(REFERENCE)
    records = judging.record_all(new, trials, reference)
    log(f"written to {new.deploy_file}")
    if options.web is not None:
        page = write_web(new, options.web, protocol_of(new))
        log(f"--web: {page} is the page to serve")
    return records


def _say_step(number: int, what: str) -> None:
    """One line for each step; what takes long within has its own progress and ETA."""
    log(f"step {number} of {STEPS}: {what}")


def check_save_dir(save_dir: Path, bundle: Bundle) -> None:
    """Refuse a folder whose content would be lost.

    Raises:
        UsageError: the bundle's own folder, one around it, or one that holds something else than
            an earlier result.
    """
    own = bundle.deploy_file.parent.resolve()
    if save_dir.resolve() in (own, *own.parents):
        raise UsageError(
            "--save_dir: another folder than the bundle's own, or one around it, is expected"
        )
    names = {DEPLOY_FILE, CARD_FILE, *MODEL_FILES, PARAMS_FILE, ONNX_FILE, ONNX_INT8_FILE}
    names |= {file.name for file in bundle.files}
    require_replaceable(save_dir, REPORT, names, "--save_dir")


def divide(
    samples: Sequence[Sample], num_calibration: int, num_judged: int, seed: int
) -> tuple[list[Sample], list[Sample]]:
    """Samples to calibrate with and to judge by; apart, where there are enough of them."""
    order = np.random.default_rng(seed).permutation(len(samples))
    calibration = [samples[i] for i in order[:num_calibration]]
    rest = [samples[i] for i in order[num_calibration : num_calibration + num_judged]]
    if not rest:
        log("calibration takes every image of the list, so the verdict is on the same ones")
    return calibration, rest or calibration[:num_judged]


def write_quantized(
    bundle: Bundle, calibration: Sequence[Sample], options: QuantizeOptions, work: Path
) -> None:
    """Write the new bundle, not yet judged.

    Raises:
        CheckFailed: the graph cannot be quantised.
        DataError: an image that cannot be read.
    """
    _say_step(1, f"the range of every activation, on {len(calibration)} images")
    graph = QuantizableGraph(bundle.onnx_file(), work)
    files = [sample.image for sample in calibration]
    graph.calibrate(network_inputs(bundle, track(files, "calibrate", total=len(files))))
    batches = list(network_inputs(bundle, files[:TRIED_IMAGES]))
    percentile, changed = choose_percentile(graph, bundle, batches, options)
    graph.take_percentile(percentile)
    kept, ranking = _kept_in_float(graph, bundle, batches, options, changed)
    layers = [layer for layer in graph.layers if layer not in kept]
    if not layers:
        raise UsageError(f"--keep_float {options.keep_float}: no layer is left for INT8")
    counted = f"{len(layers)} of {len(graph.layers)} convolutions in INT8"
    _say_step(3, f"{counted}, in float: {', '.join(kept) or 'none'}")
    report = {
        "made_by": f"onnxruntime {metadata.version('onnxruntime')}, static, per channel",
        "percentile": percentile,
        "calibration": {
            "images": [sample.name for sample in calibration],
            "seed": options.seed,
        },
        "layers_int8": layers,
        "layers_float": kept,
        "sensitivity": [vars(entry) for entry in ranking],
    }
    with atomic_directory(options.save_dir) as folder:
        for file in bundle.files:
            if file.name not in (DEPLOY_FILE, REPORT):
                shutil.copy(file, folder / file.name)
        graph.write(folder / ONNX_INT8_FILE, layers)
        write_json(folder / REPORT, report)
        write_deploy_yaml(
            folder,
            bundle.transforms,
            bundle.input_shape or [None, 3, None, None],
            bundle.output_op,
            _manifest(bundle, report),
            bundle.input_dtype,
        )


def choose_percentile(
    graph: QuantizableGraph,
    bundle: Bundle,
    batches: Sequence[NDArray],
    options: QuantizeOptions,
) -> tuple[float, float]:
    """The share of each activation's values that its range holds, in percent, and its cost.

    'auto' is the one by which the fewest pixels change with every layer in INT8; the cost is their
    share. A range without its farthest values has finer steps; whether that gains more than it
    loses depends on the weights.
    """
    expected = _label_maps(bundle, "onnxruntime", batches, options)
    tried = PERCENTILES if options.percentile == AUTO else (float(options.percentile),)
    changed = {}
    for percentile in tried:
        graph.take_percentile(percentile)
        file = graph.folder / "whole.onnx"
        graph.write(file, graph.layers)
        changed[percentile] = _most_changed(bundle.with_onnx(file), batches, expected, options)
        log(
            f"ranges of {percentile:g}% of the values, every layer in INT8: "
            f"{changed[percentile]:.2%} of the pixels change class"
        )
    best = min(tried, key=changed.__getitem__)
    return best, changed[best]


def _kept_in_float(
    graph: QuantizableGraph,
    bundle: Bundle,
    batches: Sequence[NDArray],
    options: QuantizeOptions,
    changed: float,
) -> tuple[list[str], list[Sensitivity]]:
    """The layers that stay in float, and the ranking of all, the worst first.

    `changed` is the share of the pixels that change class with every layer in INT8.
    """
    reason = needs_no_ranking(options, changed)
    if reason:
        _say_step(2, f"left out, every layer is INT8: {reason}")
        return [], []
    tried = f"{len(graph.layers)} layers, each alone in {', '.join(options.backend)}"
    _say_step(2, f"which layers stay in float: {tried}")
    ranking = rank_layers(graph, bundle, batches[:RANKED_IMAGES], options, graph.folder)
    for entry in ranking[:5]:
        log(f"alone in INT8, {entry.layer} moves the logits by {entry.error:.2%}")
    if options.keep_float == AUTO and options.budget.different_pixels:
        return keep_within_budget(graph, ranking, bundle, batches, options), ranking
    return choose_float(ranking, options.keep_float), ranking


def needs_no_ranking(options: QuantizeOptions, changed: float) -> str:
    """Why the layers need not be measured; empty where they must be."""
    if options.sensitivity != AUTO:
        return "" if options.sensitivity else "--sensitivity False"
    if options.keep_float == 0:
        return "--keep_float 0"
    aim = SHARE_OF_BUDGET * options.budget.different_pixels
    if options.keep_float == AUTO and changed <= aim:
        return f"{changed:.2%} of the pixels change class, and up to {aim:.2%} may"
    return ""


def choose_float(ranking: Sequence[Sensitivity], keep_float: int | str) -> list[str]:
    """The layers that stay in float, from a ranking that has the worst first."""
    if keep_float == AUTO:
        return [entry.layer for entry in ranking if entry.error > MOST_ERROR]
    return [entry.layer for entry in ranking[: int(keep_float)]]


def keep_within_budget(
    graph: QuantizableGraph,
    ranking: Sequence[Sensitivity],
    bundle: Bundle,
    batches: Sequence[NDArray],
    options: QuantizeOptions,
) -> list[str]:
    """The layers that stay in float for the whole graph to meet the budget of changed pixels.

    Layers that are harmless alone add up. First those that alone move the logits too much stay in
    float, then twice as many more at each step, the most sensitive first.

    Args:
        graph: calibrated.
        ranking: every layer, the worst first.
        bundle: whose graph it is.
        batches: inputs that the changed pixels are counted on, in every backend.
        options: with the budget.

    Returns:
        Names of layers. Where no graph meets the budget it is as if none was asked for, and the
        verdict says so.
    """
    expected = _label_maps(bundle, "onnxruntime", batches, options)
    first = len(choose_float(ranking, AUTO))
    kept = [entry.layer for entry in ranking]
    for number in [first, *(first + 2**power for power in range(len(ranking).bit_length()))]:
        chosen = kept[:number]
        layers = [layer for layer in graph.layers if layer not in chosen]
        if not layers:
            break
        file = graph.folder / "whole.onnx"
        graph.write(file, layers)
        changed = _most_changed(bundle.with_onnx(file), batches, expected, options)
        log(f"{len(chosen)} layers in float: {changed:.2%} of the pixels change class")
        if changed <= SHARE_OF_BUDGET * options.budget.different_pixels:
            return chosen
    return kept[:first]


def _most_changed(
    quantized: Bundle,
    batches: Sequence[NDArray],
    expected: Sequence[NDArray],
    options: QuantizeOptions,
) -> float:
    """Share of the pixels whose class changes, in the backend where most do."""
    shares = []
    for name in options.backend:
        got = _label_maps(quantized, name, batches, options)
        shares.append(_changed_pixels(got, expected))
    return max(shares)


def _changed_pixels(got: Iterable[NDArray], expected: Iterable[NDArray]) -> float:
    """Mean share over the label maps."""
    pairs = zip(got, expected, strict=True)
    return float(np.mean([np.mean(one != other) for one, other in pairs]))


def _manifest(bundle: Bundle, report: dict[str, Any]) -> Manifest:
    assert bundle.manifest is not None
    entry = {
        "file": ONNX_INT8_FILE,
        "opset": bundle.manifest.graphs["onnx"]["opset"],
        "made_by": report["made_by"],
        "percentile": report["percentile"],
        "calibration_images": len(report["calibration"]["images"]),
        "seed": report["calibration"]["seed"],
        "layers_float": report["layers_float"],
    }
    # The records of an earlier INT8 graph do not hold for this one.
    verified = {k: v for k, v in bundle.manifest.verified.items() if not k.endswith("_int8")}
    graphs = {**bundle.manifest.graphs, "onnx_int8": entry}
    return replace(bundle.manifest, graphs=graphs, verified=verified)


def rank_layers(
    graph: QuantizableGraph,
    bundle: Bundle,
    batches: Sequence[NDArray],
    options: QuantizeOptions,
    work: Path,
) -> list[Sensitivity]:
    """Every layer by what it costs when it alone is INT8, the worst first.

    The cost is that in the engine where it is highest: engines fuse the same graph differently.
    """
    expected = list(_run_all(bundle, "onnxruntime", batches, options))
    maps = [logits.argmax(1) for logits in expected]
    ranking = []
    for layer in track(graph.layers, "sensitivity", total=len(graph.layers)):
        file = work / "one_layer.onnx"
        graph.write(file, [layer])
        errors, changes = [], []
        for name in options.backend:
            got = list(_run_all(bundle.with_onnx(file), name, batches, options))
            pairs = zip(got, expected, strict=True)
            errors.append(float(np.mean([relative_error(*pair) for pair in pairs])))
            changes.append(_changed_pixels([logits.argmax(1) for logits in got], maps))
        ranking.append(Sensitivity(layer, max(errors), max(changes)))
    return sorted(ranking, key=lambda entry: -entry.error)


def _run_all(
    bundle: Bundle, engine: str, batches: Sequence[NDArray], options: QuantizeOptions
) -> Iterator[NDArray]:
    opened = open_engine(bundle, RuntimeSpec(engine, threads=options.cpu_threads))
    return (opened.run(batch) for batch in batches)


def _label_maps(
    bundle: Bundle, engine: str, batches: Sequence[NDArray], options: QuantizeOptions
) -> list[NDArray]:
    """Of each batch; its logits, which may take a hundred times as much, are not kept."""
    return [logits.argmax(1) for logits in _run_all(bundle, engine, batches, options)]


def open_trials(bundle: Bundle, new: Bundle, options: QuantizeOptions) -> dict[str, Trial]:
    """The float reference, and INT8 in every engine that is asked for, by the bundle's protocol."""
    protocol = rule_for_bundle(bundle).make()
    plain = RuntimeSpec(REFERENCE, threads=options.cpu_threads)
    trials = {REFERENCE: Trial(by_protocol(Predictor.of_bundle(bundle, plain), protocol))}
    for engine in options.backend:
        spec = RuntimeSpec(engine, "int8", threads=options.cpu_threads)
        trials[spec.name] = Trial(by_protocol(Predictor.of_bundle(new, spec), protocol))
    return trials
