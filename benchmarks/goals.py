"""The goals of the fast path, each as a ratio of two things measured in turns, in one run.

    python benchmarks/goals.py --host HOST/deploy.yaml --int8 INT8/deploy.yaml \
        --argmax ARGMAX/deploy.yaml --data val.list

HOST is exported with `--upsample host --onnx True` (and `--mnn True`, or with --network_size as
`--input_shape` `--ncnn True`, for these engines), INT8 is what `quantize` made of it, ARGMAX is
exported with `--output_op argmax --onnx True`; all of the same weights. The images are resized to
--image_size first; the network sees --network_size. `make bench` does all of it.

Each round measures everything once, in an order that shifts by one from round to round; a ratio is
that of the medians over the rounds, by the clock and by processor time, which other programs
disturb less (with OMP_NUM_THREADS=1: threads that spin count as working). The run against which
folders are measured reads, predicts (the arg-max in Paddle's oneDNN graph) and writes one image
after the other, as PaddleSeg's own loop does. SAVE_DIR/goals.json gets all figures. The status is 1
only where label maps are wrong: a missed goal is a figure, not a failure.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed, UsageError, run_command
from paddleseg_ext.common.files import require_writable, write_json
from paddleseg_ext.common.machine import available_cores, cpu_name, fix_thread_count
from paddleseg_ext.common.packages import how_to_install
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.evaluator import EvaluationOptions, evaluate
from paddleseg_ext.evaluation.turns import SETTLE_SECONDS
from paddleseg_ext.images.reading import read_image, read_label
from paddleseg_ext.images.samples import Sample, collect_samples
from paddleseg_ext.inference.bundle import Bundle, read_bundle
from paddleseg_ext.inference.engines.table import ENGINES
from paddleseg_ext.inference.outputs import save_label_map
from paddleseg_ext.inference.pipeline import Prediction, StreamOptions
from paddleseg_ext.inference.postprocess import Postprocess, has_numba
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Geometry, Step
from paddleseg_ext.inference.runtime import RuntimeSpec

MOST_LOSS = 0.005  # of mIoU
REPORT = "goals.json"


@dataclass(frozen=True)
class Goal:
    """A ratio of two measured things: seconds of `against` over seconds of `ours`."""

    title: str
    ours: str
    against: str
    at_least: float


SPARSE = "sparse upsampling + arg-max"
STREAMS = "  with a stream for each core"
GOALS = (
    Goal("FP32 network + arg-max", "network fp32", "network dense", 1.4),
    Goal("FP32 folder run", "folder fp32", "folder sequential", 1.6),
    Goal(STREAMS, "folder fp32 streams", "folder sequential", 1.6),
    Goal("bf16 network + arg-max", "network bf16", "network dense", 2.0),
    Goal("bf16 folder run", "folder bf16", "folder sequential", 2.1),
    Goal("INT8 network + arg-max", "network int8", "network dense", 2.9),
    Goal("INT8 folder run", "folder int8", "folder sequential", 2.9),
    Goal(STREAMS, "folder int8 streams", "folder sequential", 2.9),
    Goal(SPARSE, "map sparse", "map dense", 4.5),
    Goal("pipeline throughput against its bound", "folder fp32", "bound", 0.93),
    Goal(STREAMS, "folder fp32 streams", "bound", 0.93),
)
FEW_CLASSES, LEAST_SPARSE_OF_FEW = 12, 3.5  # the dense way interpolates each class
# Of each precision, the first that is installed and for which there is a graph.
ORDER = ("ncnn", "mnn", "openvino", "onnxruntime")


def predict_folder(
    predictor: Predictor, samples: Sequence[Sample], folder: Path, workers: int | None
) -> None:
    """Predict images and write their label maps."""

    def write(prediction: Prediction) -> None:
        assert prediction.label_map is not None
        path = folder / f"{prediction.sample.name}.png"
        save_label_map(prediction.label_map, path, predictor.class_table)

    streams = predictor.engine.streams
    options = StreamOptions(num_workers=workers, finish=write, streams=streams)
    done = predictor.stream(samples, options)
    failed = [prediction.error for prediction in done if prediction.error is not None]
    if failed:
        raise CheckFailed(str(failed[0]))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = flags.make_parser(__doc__ or "")
    for name in ("host", "int8", "argmax"):
        parser.add_argument(f"--{name}", required=True, metavar="YAML", help="a bundle, see above")
    parser.add_argument("--data", required=True, metavar="PATH", help="'image label' lines")
    parser.add_argument(
        "--runtimes",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"ours, such as mnn openvino_bf16 (default: in each precision the first of "
        f"{', '.join(ORDER)} that is installed and has a graph)",
    )
    parser.add_argument("--images", type=flags.positive_int, default=12, help="in a folder run")
    parser.add_argument("--rounds", type=flags.positive_int, default=10, help="of everything")
    side: dict[str, Any] = {"nargs": 2, "type": flags.positive_int, "metavar": ("W", "H")}
    parser.add_argument("--image_size", default=(2048, 1024), help="pixels", **side)
    parser.add_argument("--network_size", default=(1024, 512), help="pixels", **side)
    parser.add_argument("--save_dir", default="output/bench", help="for goals.json")
    return parser.parse_args()


def make_images(samples: Sequence[Sample], folder: Path, size_wh: Sequence[int]) -> list[Sample]:
    """The images as PNGs of one size, and their labels."""
    made = []
    for number, sample in enumerate(samples):
        size = (size_wh[0], size_wh[1])
        image, label = folder / f"{number}.png", None
        pixels = cv2.resize(read_image(sample.image), size, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(image), pixels[:, :, ::-1])
        if sample.label is not None:
            # The name's end says how a data set's labels are stored.
            label = folder / f"{number}_{sample.label.stem.rpartition('_')[2]}.png"
            values = cv2.resize(read_label(sample.label), size, interpolation=cv2.INTER_NEAREST)
            Image.fromarray(values).save(label)
        made.append(Sample(image, label, str(number)))
    return made


def load(path: str, spec: RuntimeSpec, size_wh: Sequence[int]) -> Predictor:
    """A predictor for a bundle whose transforms begin with a resize to the network's size."""
    bundle = read_bundle(path)
    if bundle.manifest is None:
        raise UsageError(f"{path}: a bundle of export_model.py is expected")
    kept = [spec for spec in bundle.transforms if "Resize" not in spec["type"]]
    resize = {"type": "Resize", "target_size": list(size_wh)}
    bundle = replace(bundle, transforms=[resize, *kept])
    return Predictor.of_bundle(bundle, spec)


def check_bundles(host: Bundle | None, int8: Bundle | None, argmax: Bundle | None) -> None:
    """Refuse bundles whose ratios would mean nothing.

    Raises:
        UsageError: not exported as the table needs it, or of different weights.
    """
    assert host is not None and int8 is not None and argmax is not None
    for flag, bundle in (("--host", host), ("--int8", int8)):
        if bundle.postprocess().upsampling == "graph":
            raise UsageError(f"{flag}: export the network with --upsample host")
    if argmax.output_op != "argmax":
        raise UsageError("--argmax: export the network with --output_op argmax")
    manifests = [bundle.manifest for bundle in (host, int8, argmax) if bundle.manifest]
    if len({manifest.checkpoint.get("sha256") for manifest in manifests}) > 1:
        raise UsageError("--host, --int8 and --argmax: bundles of the same weights are expected")


def network_measures(
    ways: Mapping[str, Predictor], samples: Sequence[Sample], original_hw: tuple[int, int]
) -> dict[str, Callable[[], None]]:
    """One image through network and arg-max, at the network's size; and upsampling by itself."""
    host = ways["fp32"]
    images = [host.prepare(sample.image).tensor[None] for sample in samples]
    network_hw = images[0].shape[2:]
    plain = Geometry(network_hw, network_hw)
    outputs = [host.engine.run(image)[0] for image in images]
    back = Geometry(original_hw, network_hw, (Step("resize", original_hw),))
    upsampling = host.postprocess.upsampling

    def through(predictor: Predictor) -> None:
        for image in images:
            predictor.postprocess.label_map(predictor.engine.run(image)[0], plain)

    def upsample(postprocess: Postprocess) -> None:
        for output in outputs:
            postprocess.label_map(output, back)

    names = [name for name in ("fp32", "bf16", "int8", "dense") if name in ways]
    measures = {f"network {name}": partial(through, ways[name]) for name in names}
    # One thread each: beside the network, the pipeline has no more for an image.
    dense, sparse = (Postprocess(upsampling=upsampling, sparse=s) for s in (False, True))
    measures["map dense"] = partial(one_thread, partial(upsample, dense))
    if has_numba():
        measures["map sparse"] = partial(one_thread, partial(upsample, sparse))
        for output in outputs * 2:  # the second image of a size goes the sparse way
            if not np.array_equal(dense.label_map(output, back), sparse.label_map(output, back)):
                raise CheckFailed("sparse upsampling gives another label map")
    return measures


def mean_iou(predictor: Predictor, samples: Sequence[Sample]) -> float | None:
    """Mean IoU of the images that have labels; None where none has."""
    labelled = [sample for sample in samples if sample.label is not None]
    quiet = EvaluationOptions(show_progress=False, print_scores=False)
    return float(evaluate(predictor, labelled, quiet).scores.mean_iou) if labelled else None


def measure(
    measures: Mapping[str, Callable[[], object]], rounds: int, num_images: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Name -> median seconds per image, by the clock and of processor time.

    One round before does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    processor: dict[str, list[float]] = {name: [] for name in measures}
    names = list(measures)
    for index in track(range(rounds + 1), "goals", total=rounds + 1):
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(SETTLE_SECONDS)
            started, before = time.perf_counter(), time.process_time()
            measures[name]()
            if index:
                seconds[name].append((time.perf_counter() - started) / num_images)
                processor[name].append((time.process_time() - before) / num_images)
    clock, worked = (
        {name: float(np.median(values)) for name, values in times.items()}
        for times in (seconds, processor)
    )
    return clock, worked


def one_thread(run: Callable[[], object]) -> None:
    """Call `run` with OpenCV on one thread."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        run()
    finally:
        cv2.setNumThreads(before)


def choose_runtimes(arguments: argparse.Namespace) -> dict[str, str]:
    """Precision -> the runtime of ours.

    Raises:
        UsageError: an unknown runtime, or none that is installed.
    """
    host, chosen = read_bundle(arguments.host), {}
    for precision in ("fp32", "bf16", "int8"):
        graph_of = {name: ENGINES[name].graphs.get(precision) for name in ORDER}
        usable = [
            RuntimeSpec(name, precision)
            for name, graph in graph_of.items()
            if graph and ENGINES[name].is_installed
            if precision == "int8" or host.has_graph(graph)
        ]
        if usable and not usable[0].why_no_bf16():
            chosen[precision] = usable[0].name
    named = [RuntimeSpec.parse(name) for name in arguments.runtimes]
    chosen |= {spec.precision: spec.name for spec in named}
    for precision in ("fp32", "int8"):
        if precision not in chosen:
            raise UsageError(
                f"no engine is installed for {precision}: {how_to_install('openvino')}"
            )
    return chosen


def main() -> None:
    """Load, measure, print."""
    arguments = parse_arguments()
    threads = fix_thread_count()
    save_dir = require_writable(arguments.save_dir, "--save_dir")
    if not ENGINES["onnxruntime"].is_installed:
        raise UsageError(f"ONNX Runtime is needed: {how_to_install('onnxruntime')}")
    ours = choose_runtimes(arguments)
    samples = collect_samples(arguments.data)[: arguments.images]
    size, (width, height) = arguments.network_size, arguments.image_size
    with tempfile.TemporaryDirectory(prefix="goals-") as work:
        spec = partial(RuntimeSpec.parse, threads=threads)
        ways = {
            "fp32": load(arguments.host, spec(ours["fp32"]), size),
            "fp32 streams": load(arguments.host, spec(ours["fp32"], streams=threads), size),
            "int8": load(arguments.int8, spec(ours["int8"]), size),
            "int8 streams": load(arguments.int8, spec(ours["int8"], streams=threads), size),
            "dense": load(arguments.argmax, spec("onnxruntime"), size),
            "sequential": load(arguments.argmax, spec("paddle_onednn"), size),
            "alone": load(arguments.host, RuntimeSpec.parse(ours["fp32"], threads=1), size),
        }
        if "bf16" in ours:
            ways["bf16"] = load(arguments.host, spec(ours["bf16"]), size)
        check_bundles(*(ways[name].bundle for name in ("fp32", "int8", "dense")))
        folder = Path(work)
        made = make_images(samples, folder, (width, height))

        def run(name: str, workers: int | None) -> Callable[[], None]:
            return partial(predict_folder, ways[name], made, folder / name, workers)

        measures = {
            **{
                f"folder {n}": run(n, None)
                for n in ("fp32", "fp32 streams", "bf16", "int8", "int8 streams")
                if n in ways
            },
            "folder sequential": run("sequential", 0),
            "core-seconds": partial(one_thread, run("alone", 0)),
        } | network_measures(ways, made, (height, width))
        seconds, processor = measure(measures, arguments.rounds, len(made))
        scores = {name: mean_iou(ways[name], made) for name in ours}
    # The time per image if every core were busy all the time.
    seconds["bound"] = seconds["core-seconds"] / min(available_cores(), threads)
    content = {"runtimes": ours, "seconds": seconds, "processor": processor, "mean_iou": scores}
    report(content, ways["fp32"].class_table.num_classes, arguments, save_dir)


def report(
    content: dict[str, Any], num_classes: int, arguments: argparse.Namespace, save_dir: Path
) -> None:
    """Print the table and write it with the rest of `content`."""
    seconds, processor, scores = (content[k] for k in ("seconds", "processor", "mean_iou"))
    ours = ", ".join(content["runtimes"].values())
    print(f"{cpu_name()}, {available_cores()} cores, load {os.getloadavg()[0]:.1f}, ours: {ours}")
    print(f"{'':<40} {'clock':>8} {'processor':>9}")
    rows = []
    for goal in GOALS:
        at_least = goal.at_least
        if goal.title == SPARSE and num_classes <= FEW_CLASSES:
            at_least = LEAST_SPARSE_OF_FEW
        ratios = [
            times[goal.against] / times[goal.ours]
            if goal.ours in times and goal.against in times
            else None
            for times in (seconds, processor)
        ]
        told = ["-" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        print(f"{goal.title:<40} {told[0]:>8} {told[1]:>9}  (at least {at_least})")
        row = {"title": goal.title, "ratio": ratios[0], "processor_ratio": ratios[1]}
        rows.append({**row, "at_least": at_least})
    for precision in ("bf16", "int8"):
        if scores.get("fp32") is not None and scores.get(precision) is not None:
            loss = scores["fp32"] - scores[precision]
            print(f"{f'mIoU that {precision} loses':<40} {loss:>8.4f}  (at most {MOST_LOSS})")
    for name, value in seconds.items():
        worked = f"{processor[name] * 1000:9.2f} ms of a processor" if name in processor else ""
        print(f"  {name:<20} {value * 1000:9.2f} ms per image {worked}")
    machine = {"cpu": cpu_name(), "cores": available_cores()}
    flags_of = {name: getattr(arguments, name) for name in ("rounds", "images")}
    sizes = {name: list(getattr(arguments, name)) for name in ("image_size", "network_size")}
    write_json(save_dir / REPORT, {**machine, **flags_of, **sizes, "goals": rows, **content})


if __name__ == "__main__":
    run_command(main)
