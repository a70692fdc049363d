r"""Make an INT8 graph for a bundle (post-training, no labels needed), and judge it.

Ranges of activations come from real images of the list. Each convolution is then quantised alone
to see what it costs (--sensitivity), and those that alone move the logits by more than 2% stay in
float (--keep_float). The result runs on images of the list in every asked-for backend, beside the
float graph: label maps, and with labels the mean IoU before and after, are held to the INT8 budget
of `parity`.

SAVE_DIR gets a copy of the bundle with model_int8.onnx and quantization.json; the verdicts are in
its deploy.yaml, where infer.py --precision int8 looks them up. An earlier result is replaced, any
other folder that is not empty is refused. The exit status is 1 if a backend's INT8 exceeds the
budget.

  paddleseg-ext quantize --config output/inference_model/deploy.yaml --data train.list \
      --backend onnxruntime openvino --save_dir output/inference_model_int8
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.files import (
    atomic_directory,
    require_replaceable,
    require_writable,
    write_json,
)
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import cpu_name, fix_thread_count
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.budgets import read_budgets
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.evaluation.trials import Trial, new_size_share, run_trials
from paddleseg_ext.images.functional import read_image
from paddleseg_ext.images.samples import Sample, collect_samples
from paddleseg_ext.inference.activity import shortfall
from paddleseg_ext.inference.bundle import (
    DEPLOY_FILE,
    MODEL_FILES,
    ONNX_FILE,
    ONNX_INT8_FILE,
    PARAMS_FILE,
    Bundle,
    Manifest,
    read_bundle,
    record_verified,
    write_deploy_yaml,
)
from paddleseg_ext.inference.engines.open import open_backend, stage_name
from paddleseg_ext.quantization.graph import QuantizableGraph, import_quantizer, relative_error
from paddleseg_ext.scoring.verdict import Budget

REPORT = "quantization.json"
REFERENCE = "paddle"
BACKENDS = ("onnxruntime", "openvino", "paddle")
AUTO = "auto"
MOST_ERROR = 0.02  # of the logits, by one layer; 'auto' leaves what costs more in float
WHY_NOT_PADDLE = (
    "--backend paddle: Paddle 3.2.2 has no INT8 on a CPU that runs: its predictor takes "
    "enable_mkldnn_int8() and goes on in fp32 (docs/quantization.md); use onnxruntime or openvino"
)


@dataclass(frozen=True)
class Sensitivity:
    """What one layer costs when it alone is INT8.

    Attributes:
        error: root mean square of the logits' change over that of the logits.
        changed_pixels: share of the pixels whose class changes.
    """

    layer: str
    error: float
    changed_pixels: float


def _auto_or_count(text: str) -> int | str:
    return AUTO if text == AUTO else flags.natural_int(text)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = flags.make_parser(__doc__ or "", "quantize")
    parser.add_argument("--config", required=True, metavar="YAML", help="deploy.yaml of the bundle")
    parser.add_argument(
        "--data", required=True, metavar="PATH", help="a list with 'image label', or images alone"
    )
    parser.add_argument(
        "--backend", nargs="+", choices=BACKENDS, default=["onnxruntime"], help="where it shall run"
    )
    parser.add_argument(
        "--save_dir", default="output/inference_model_int8", help="the new bundle's folder"
    )
    parser.add_argument(
        "--calibration_images", type=flags.positive_int, default=32, help="drawn from the list"
    )
    parser.add_argument("--seed", type=flags.natural_int, default=0, help="of the drawing")
    parser.add_argument(
        "--keep_float", type=_auto_or_count, default=AUTO, metavar="N",
        help="leave the N most sensitive layers in float, or 'auto': see above",
    )  # fmt: skip
    parser.add_argument(
        "--sensitivity", type=flags.boolean, default=True, metavar="True|False",
        help="measure each layer alone, on two of the calibration images",
    )  # fmt: skip
    parser.add_argument(
        "--judge_images", type=flags.positive_int, default=64,
        help="images of the verdict, from those that calibration did not see where there are some",
    )  # fmt: skip
    parser.add_argument(
        "--budgets", metavar="YML", help="as for parity, where its own INT8 budget is not meant"
    )
    parser.add_argument("--cpu_threads", type=flags.positive_int, help="default: every core")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int | None:
    """Check what can be checked early, then quantise and judge."""
    arguments = parse_arguments(argv)
    if "paddle" in arguments.backend:
        raise UsageError(WHY_NOT_PADDLE)
    if arguments.keep_float not in (AUTO, 0) and not arguments.sensitivity:
        raise UsageError("--keep_float needs --sensitivity True: which layers are the worst?")
    bundle = read_bundle(arguments.config)
    if bundle.manifest is None or bundle.output_op == "argmax":
        raise UsageError(
            f"{bundle.deploy_file}: a bundle of export_model.py that ends in scores is expected "
            "(--output_op none): sensitivity and verdict need logits"
        )
    bundle.onnx_file()  # says how to make it, where there is none
    import_quantizer()
    budget = read_budgets(arguments.budgets)["int8"]
    save_dir = Path(arguments.save_dir)
    check_save_dir(save_dir, bundle)
    require_writable(save_dir.parent, "--save_dir")
    listed = collect_samples(arguments.data)
    calibration, judged = divide(
        listed,
        arguments.calibration_images,
        arguments.judge_images,
        arguments.seed,
    )
    threads = fix_thread_count(arguments.cpu_threads)
    with tempfile.TemporaryDirectory(prefix="quantize-") as work:
        quantize(bundle, calibration, arguments, Path(work), save_dir, threads)
    new = read_bundle(save_dir)
    trials = open_trials(bundle, new, arguments.backend, threads)
    run_trials(trials, REFERENCE, track(judged, "judge", total=len(judged)))
    conclude(new, trials, budget, new_size_share(new, listed))
    return None


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
    names = {DEPLOY_FILE, *MODEL_FILES, PARAMS_FILE, ONNX_FILE, ONNX_INT8_FILE}
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


def quantize(
    bundle: Bundle,
    calibration: Sequence[Sample],
    arguments: argparse.Namespace,
    work: Path,
    save_dir: Path,
    threads: int,
) -> None:
    """Write the new bundle, not yet judged.

    Raises:
        CheckFailed: the graph cannot be quantised.
        DataError: an image that cannot be read.
    """
    graph = QuantizableGraph(bundle.onnx_file(), work)
    graph.calibrate(_batches(bundle, track(calibration, "calibrate", total=len(calibration))))
    ranking: list[Sensitivity] = []
    if arguments.sensitivity:
        batches = list(_batches(bundle, calibration[:2]))
        ranking = rank_layers(graph, bundle, batches, arguments.backend, work, threads)
        for entry in ranking[:5]:
            log(f"alone in INT8, {entry.layer} moves the logits by {entry.error:.2%}")
    kept = choose_float(ranking, arguments.keep_float)
    layers = [layer for layer in graph.layers if layer not in kept]
    if not layers:
        raise UsageError(f"--keep_float {arguments.keep_float}: no layer is left for INT8")
    log(f"{len(layers)} of {len(graph.layers)} convolutions in INT8, in float: {kept or 'none'}")
    report = {
        "made_by": f"onnxruntime {metadata.version('onnxruntime')}, static, per channel, min-max",
        "calibration": {
            "images": [sample.name for sample in calibration],
            "seed": arguments.seed,
        },
        "layers_int8": layers,
        "layers_float": kept,
        "sensitivity": [vars(entry) for entry in ranking],
    }
    with atomic_directory(save_dir) as folder:
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


def choose_float(ranking: Sequence[Sensitivity], keep_float: int | str) -> list[str]:
    """The layers that stay in float, from a ranking that has the worst first."""
    if keep_float == AUTO:
        return [entry.layer for entry in ranking if entry.error > MOST_ERROR]
    return [entry.layer for entry in ranking[: int(keep_float)]]


def _manifest(bundle: Bundle, report: dict[str, Any]) -> Manifest:
    assert bundle.manifest is not None
    entry = {
        "file": ONNX_INT8_FILE,
        "opset": bundle.manifest.graphs["onnx"]["opset"],
        "made_by": report["made_by"],
        "calibration_images": len(report["calibration"]["images"]),
        "seed": report["calibration"]["seed"],
        "layers_float": report["layers_float"],
    }
    # What an earlier INT8 graph was found to be does not hold for this one.
    verified = {k: v for k, v in bundle.manifest.verified.items() if not k.endswith("_int8")}
    graphs = {**bundle.manifest.graphs, "onnx_int8": entry}
    return replace(bundle.manifest, graphs=graphs, verified=verified)


def _batches(bundle: Bundle, samples: Sequence[Sample] | Iterator[Sample]) -> Iterator[NDArray]:
    preprocess = bundle.preprocess()
    for sample in samples:
        yield preprocess(read_image(sample.image))[0][None]


def rank_layers(
    graph: QuantizableGraph,
    bundle: Bundle,
    batches: Sequence[NDArray],
    backends: Sequence[str],
    work: Path,
    threads: int,
) -> list[Sensitivity]:
    """Every layer by what it costs when it alone is INT8, the worst first.

    The cost is that in the backend where it is highest: runtimes fuse the same graph differently.
    """
    expected = _run_all(bundle, "onnxruntime", batches, threads)
    ranking = []
    for layer in track(graph.layers, "sensitivity", total=len(graph.layers)):
        file = work / "one_layer.onnx"
        graph.write(file, [layer])
        errors, changes = [], []
        for name in backends:
            got = _run_all(bundle.with_onnx(file), name, batches, threads)
            pairs = list(zip(got, expected, strict=True))
            errors.append(float(np.mean([relative_error(*pair) for pair in pairs])))
            changes.append(float(np.mean([np.mean(g.argmax(1) != e.argmax(1)) for g, e in pairs])))
        ranking.append(Sensitivity(layer, max(errors), max(changes)))
    return sorted(ranking, key=lambda entry: -entry.error)


def _run_all(bundle: Bundle, name: str, batches: Sequence[NDArray], threads: int) -> list[NDArray]:
    backend = open_backend(bundle, name, threads=threads)
    return [backend.run(batch) for batch in batches]


def open_trials(
    bundle: Bundle, new: Bundle, backends: Sequence[str], threads: int
) -> dict[str, Trial]:
    """The float reference, and INT8 in every asked-for backend."""
    assert bundle.manifest is not None
    table = bundle.manifest.class_table
    reference = open_backend(bundle, REFERENCE, threads=threads)
    trials = {REFERENCE: Trial(reference, bundle, "", Scorer(table))}
    for name in backends:
        backend = open_backend(new, name, precision="int8", threads=threads)
        fallen = shortfall(backend.describe(), name, "int8", threads)
        trials[stage_name(name, "int8")] = Trial(backend, new, fallen, Scorer(table))
    return trials


def conclude(new: Bundle, trials: dict[str, Trial], budget: Budget, share: float) -> None:
    """Write the verdicts into the new bundle.

    Args:
        new: the bundle.
        trials: after their images.
        budget: of INT8.
        share: of the list's images, those that are the first of their size.

    Raises:
        CheckFailed: a backend's INT8 exceeds the budget.
    """
    reference = trials.pop(REFERENCE)
    table = reference.scorer.class_table
    before = reference.scorer.result().scores.mean_iou if reference.scorer.num_images else None
    stages = {}
    for stage, trial in trials.items():
        verdict = trial.verdict(reference, table, budget)
        after = trial.scorer.result().scores.mean_iou if trial.scorer.num_images else None
        told = trial.backend.describe()
        scores = f"; mIoU {before:.4f} -> {after:.4f}" if before is not None and after else ""
        log(
            f"{stage}: {verdict.summary()}{scores}; {told['int8_kernels']} INT8 kernels; "
            f"{trial.ratio(reference, share):.2f} times as fast as {REFERENCE}, "
            f"a new input size takes {trial.new_size_s():.3f} s more"
        )
        stages[stage] = {
            "grade": verdict.grade,
            "passed": verdict.passed,
            "num_different": verdict.num_different,
            "num_images": verdict.num_images,
            "mean_iou_before": before,
            "mean_iou_after": after,
            "ratio": round(trial.ratio(reference, share), 3),
            "new_size_s": round(trial.new_size_s(), 4),
            "new_size_share": round(share, 4),
            "int8_kernels": told["int8_kernels"],
            "version": told["version"],
            "cpu": cpu_name(),
        }
    record_verified(new, stages)
    log(f"written to {new.deploy_file}")
    failed = [stage for stage, entry in stages.items() if not entry["passed"]]
    if failed:
        raise CheckFailed(
            f"beyond the INT8 budget: {', '.join(failed)}. Try --keep_float, or more "
            "--calibration_images"
        )
