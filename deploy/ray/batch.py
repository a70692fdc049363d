"""Segment any number of images on a Ray cluster, or on this machine; the same command for both.

Paths are fsspec's: /data/images, s3://bucket/images, a list file with one path a line. Written
below --save_dir: label_maps/NAME.png (palette PNG, pixel value = class id, original size),
manifest/part-*.parquet with a row for each image: input, output, sha256 of the output, status
(done or error), error; and run.json, what the label maps were made with. A worker that dies costs
no image and doubles none, a rerun skips every image that has a row, and a bad image is a row with
its error. A rerun with another bundle, backend, precision or device is refused; what lies below
--save_dir is never an input.

  python -m deploy.ray.batch --config bundle/deploy.yaml --images /data/images --save_dir out
  ... --address auto            on a cluster that runs; the bundle's folder is on every node
  ... --workers 8 --worker_gpus 1
"""

import argparse
import hashlib
import itertools
import math
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.ray.images import require_few_pixels, require_size
from deploy.ray.machine import require_room_for, warn_of_old_opencv
from deploy.ray.manifest import COLUMNS, DONE, ERROR, Manifest, recipe_of
from deploy.ray.storage import (
    absolute,
    is_text,
    list_images,
    open_path,
    output_name,
    printable,
    write_whole,
)
from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import (
    CheckFailed,
    DataError,
    UsageError,
    run_command,
)
from paddleseg_ext.common.log import log
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.common.progress import track
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.choice import ONNX_BACKENDS
from paddleseg_ext.inference.engines.open import BACKENDS
from paddleseg_ext.inference.engines.paddle_inference import (
    PaddleOptions,
    check_options,
)

PROJECT = Path(__file__).resolve().parents[2]  # workers import deploy.ray from it
WITHOUT_END = -1
RETRIES = 5  # of a block whose worker died; a file that kills every worker must not go on for ever
BLOCK_IMAGES = 64  # what a dead worker had begun is at most this
USAGE_ERROR = re.compile(r"(?:[\w.]*\.)?UsageError: (.*)")


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker loads."""

    config: str
    backend: str
    precision: str
    device: str
    num_classes: int | None
    cpu_threads: int
    max_pixels: int
    save_dir: str


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = flags.make_parser(__doc__ or "")
    parser.add_argument("--config", required=True, metavar="YAML", help="deploy.yaml of the bundle")
    parser.add_argument(
        "--images",
        required=True,
        metavar="PATH",
        help="a folder, a .txt or .list of paths, or one image",
    )
    parser.add_argument("--save_dir", required=True, metavar="PATH", help="for the results")
    parser.add_argument("--address", help="of a running cluster; by default Ray is started here")
    parser.add_argument(
        "--autoscaling",
        type=flags.boolean,
        default=False,
        help="the cluster starts nodes on demand: wait where no node has room for a worker",
    )
    parser.add_argument("--workers", type=flags.positive_int, default=1, help="predictors")
    parser.add_argument("--cpu_threads", type=flags.positive_int, default=1, help="of a predictor")
    parser.add_argument(
        "--worker_gpus",
        type=gpu_share,
        default=0.0,
        help="of a predictor; 0.25 lets four of them share one",
    )
    parser.add_argument("--backend", choices=BACKENDS, default="paddle", help="what runs it")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="int8 needs a bundle that `quantize` wrote; fp16 a GPU",
    )
    parser.add_argument(
        "--device", choices=("cpu", "gpu"), help="default: gpu with --worker_gpus, else cpu"
    )
    parser.add_argument(
        "--num_classes",
        type=flags.positive_int,
        help="for a bundle of PaddleSeg's whose graph ends in argmax: it does not say it itself",
    )
    parser.add_argument(
        "--max_megapixels",
        type=natural_float,
        default=25.0,
        help="largest image, in millions of pixels, and what the network may see of it; a larger "
        "one is a row with its error; 0: any, and a file of a few kB can end a worker",
    )
    parser.add_argument(
        "--part_size", type=flags.positive_int, default=1000, help="rows in a part of the manifest"
    )
    parser.add_argument(
        "--retry_errors", type=flags.boolean, default=False, help="images with an error again"
    )
    return parser.parse_args(argv)


def natural_float(text: str) -> float:
    """A finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got '{text}'")
    return value


def gpu_share(text: str) -> float:
    """What Ray takes for GPUs: a share of one, or a whole number of them."""
    value = natural_float(text)
    if value > 1 and value != int(value):
        raise argparse.ArgumentTypeError(
            f"expected a share of a GPU or a whole number of them, got '{text}'"
        )
    return value


def main(argv: list[str] | None = None) -> int | None:
    """Segment what has no row yet.

    Raises:
        UsageError: wrong flags, or a --save_dir of another run; no image was segmented then.
        CheckFailed: some images could not be segmented; the manifest says why.
    """
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    ray = _import_ray()
    settings = worker_settings(arguments)
    warn_of_old_opencv()
    images = list_images(arguments.images, settings.save_dir)
    manifest = Manifest(settings.save_dir)
    manifest.claim(
        recipe_of(
            read_bundle(settings.config),
            settings.backend,
            settings.precision,
            settings.device,
            settings.num_classes,
        )
    )
    if arguments.retry_errors:
        manifest.drop_errors()
    finished = manifest.inputs()
    inputs = [path for path in images if printable(path) not in finished]
    log(f"[RAY] {len(inputs)} images to do, {len(finished)} have a row")
    if inputs:
        _start_ray(ray, arguments)
        try:
            rows = itertools.chain(rows_of_unnameable(inputs), predict_all(inputs, arguments))
            manifest.append(track(rows, "segment", len(inputs)), arguments.part_size)
        except ray.exceptions.RayError as error:
            raise _explained(error) from error
        finally:
            ray.shutdown()
    counts = manifest.counts()
    log(f"[RAY] {counts.get(DONE, 0)} done, {counts.get(ERROR, 0)} errors; {manifest.folder}")
    if counts.get(ERROR):
        raise CheckFailed(f"{counts[ERROR]} images have an error; see {manifest.folder}")
    return None


def worker_settings(arguments: argparse.Namespace) -> WorkerSettings:
    """What the flags say to a worker, wherever it runs.

    Raises:
        UsageError: flags that do not go together.
    """
    device = arguments.device or ("gpu" if arguments.worker_gpus else "cpu")
    if device == "gpu" and not arguments.worker_gpus:
        raise UsageError(
            "--device gpu: Ray hides the GPUs from a worker that asks for none; "
            "give --worker_gpus 1, or a share of one"
        )
    if device == "cpu" and arguments.backend not in ONNX_BACKENDS:
        check_options(PaddleOptions(precision=arguments.precision))  # a GPU is the worker's to ask
    return WorkerSettings(
        config=str(Path(arguments.config).resolve()),
        backend=arguments.backend,
        precision=arguments.precision,
        device=device,
        num_classes=arguments.num_classes,
        cpu_threads=arguments.cpu_threads,
        max_pixels=round(arguments.max_megapixels * 1e6),
        save_dir=absolute(arguments.save_dir, "--save_dir").rstrip("/"),
    )


def rows_of_unnameable(inputs: list[str]) -> Iterator[dict[str, Any]]:
    """A row for each input whose name is not UTF-8: neither Ray's tables nor Parquet hold it."""
    for path in inputs:
        if not is_text(path):
            yield _row_of_error(printable(path), "the file's name is not UTF-8; rename it")


def predict_all(inputs: list[str], arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each input that has a name in UTF-8, in any order, each once."""
    import ray

    inputs = [path for path in inputs if is_text(path)]
    if not inputs:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    blocks = min(len(inputs), max(arguments.workers * 4, math.ceil(len(inputs) / BLOCK_IMAGES)))
    predictions = ray.data.from_items(
        [{"input": path} for path in inputs], override_num_blocks=blocks
    ).map_batches(
        Predictor,
        fn_constructor_args=(worker_settings(arguments),),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=arguments.workers),
        num_cpus=arguments.cpu_threads,
        num_gpus=arguments.worker_gpus,
        max_restarts=WITHOUT_END,
        max_task_retries=RETRIES,
        runtime_env={"env_vars": {"PYTHONPATH": _python_path()}},
    )
    yield from predictions.iter_rows()


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))


class Predictor:
    """A worker: one loaded bundle, many images."""

    def __init__(self, settings: WorkerSettings):
        """Loads the bundle; Ray calls it once for each worker."""
        from paddleseg_ext.common.machine import fix_thread_count
        from paddleseg_ext.inference.class_table import find_class_table
        from paddleseg_ext.inference.engines.open import open_backend

        fix_thread_count(settings.cpu_threads)
        bundle = read_bundle(settings.config)
        self._backend = open_backend(
            bundle,
            settings.backend,
            precision=settings.precision,
            threads=settings.cpu_threads,
            device=settings.device,
        )
        self._preprocess = bundle.preprocess()
        self._postprocess = bundle.postprocess()
        self._table = find_class_table(bundle, self._backend, settings.num_classes)
        self._save_dir = settings.save_dir
        self._max_pixels = settings.max_pixels

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Rows of the manifest for a batch of inputs."""
        rows = [self._row(str(path)) for path in batch["input"]]
        return {column: [row[column] for row in rows] for column in COLUMNS}

    def _row(self, path: str) -> dict[str, Any]:
        # Whatever an image brings about is its own row: Ray gives up the whole run at the first
        # exception, in every rerun again. What cannot be written is no image's fault and does end
        # the run.
        try:
            content = self._segment(path)
        except Exception as error:
            return _row_of_error(path, _reason(error))
        output = f"{self._save_dir}/{output_name(path)}"
        write_whole(output, content)
        digest = hashlib.sha256(content).hexdigest()
        return dict(zip(COLUMNS, (path, output, digest, DONE, ""), strict=True))

    def _segment(self, path: str) -> bytes:
        from paddleseg_ext.images.functional import decode_image
        from paddleseg_ext.inference.outputs import encode_label_map

        filesystem, name = open_path(path, "image")
        content = filesystem.cat_file(name)
        if not content:
            raise DataError(f"{path}: the file is empty (0 bytes)")
        require_few_pixels(content, path, self._max_pixels)
        image = decode_image(content, path)
        height, width = image.shape[:2]
        network_hw = self._preprocess.network_hw((height, width))
        require_size(network_hw, f"{path}: after the bundle's transforms", self._max_pixels)
        tensor, geometry = self._preprocess(image)
        output = self._backend.run(tensor[None])[0]
        return encode_label_map(self._postprocess.label_map(output, geometry), self._table)


def _row_of_error(path: str, reason: str) -> dict[str, Any]:
    return dict(zip(COLUMNS, (path, "", "", ERROR, reason), strict=True))


def _reason(error: Exception) -> str:
    """One line for the manifest; of an error that is none of ours or the disk's with its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    if isinstance(error, (DataError, OSError)):
        return printable(lines[0] if lines else kind)
    return printable(f"{kind}: {lines[0]}" if lines else kind)


def _start_ray(ray: Any, arguments: argparse.Namespace) -> None:
    try:
        ray.init(address=arguments.address, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:  # Ray's for a wrong address
        if arguments.address is None:
            raise
        raise UsageError(f"--address {arguments.address}: {_reason(error)}") from None
    try:
        require_room_for(
            [node["Resources"] for node in ray.nodes() if node["Alive"]],
            arguments.workers,
            arguments.cpu_threads,
            arguments.worker_gpus,
            arguments.autoscaling,
        )
    except UsageError:
        ray.shutdown()
        raise


def _explained(error: Exception) -> UsageError | CheckFailed:
    """One line for what ended a run: a worker that cannot load is wrong use, the rest lost work."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    # With a worker's traceback its last line says what happened, without one Ray's first.
    said = lines[-1] if any(line.startswith("  File ") for line in lines) else lines[0]
    wrong_use = USAGE_ERROR.fullmatch(said)
    if wrong_use:
        return UsageError(wrong_use[1])
    return CheckFailed(f"Ray gave up: {said}; what is done is kept, run it again")


def _import_ray() -> Any:
    with optional_imports("batches on Ray", "ray"):
        import fsspec  # noqa: F401
        import pyarrow  # noqa: F401
        import ray
        import ray.data
    return ray


if __name__ == "__main__":
    run_command(main)
