"""Segment any number of images on a Ray cluster, or on this machine; the same command for both.

Paths are fsspec's: /data/images, s3://bucket/images, a list file with one path per line. Below
--save_dir it writes label_maps/NAME.png (palette PNG, pixel value = class id, original size),
manifest/part-*.parquet with a row per image: input, output, sha256 of the output, status (done or
error), error; and run.json, the recipe of the label maps. When a worker dies, no image is lost and
none is done twice; a rerun skips every image that has a row; a bad image is a row with its error. A
rerun with another bundle, backend, precision or device is refused. Files below --save_dir are never
inputs.

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
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal

from deploy.ray.images import require_few_pixels, require_size
from deploy.ray.machine import require_room_for, warn_of_old_opencv
from deploy.ray.manifest import COLUMNS, DONE, ERROR, Manifest, recipe_of
from deploy.ray.storage import (
    absolute,
    is_local,
    is_text,
    list_images,
    open_path,
    output_name,
    printable,
    write_whole,
)
from paddleseg_ext.commands.runtime_flags import NAMES, RuntimeFlags, named_runtime
from paddleseg_ext.common.errors import (
    CheckFailed,
    DataError,
    UsageError,
    run_command,
)
from paddleseg_ext.common.flags import natural_float, positive_int
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.common.options import option, parse_options
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.bundle_protocol import by_its_rule
from paddleseg_ext.images.reading import decode_image, read_file
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.outputs import encode_label_map
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import PRECISIONS, RuntimeSpec

PROJECT = Path(__file__).resolve().parents[2]  # workers import deploy.ray from it
WITHOUT_END = -1
RETRIES = 5  # of a block whose worker died; a file that kills every worker must not go on for ever
BLOCK_IMAGES = 64  # what a dead worker had begun is at most this
USAGE_ERROR = re.compile(r"(?:[\w.]*\.)?UsageError: (.*)")


def gpu_share(text: str) -> float:
    """GPUs as Ray takes them: a share of one, or a whole number of them."""
    value = natural_float(text)
    if value > 1 and value != int(value):
        raise argparse.ArgumentTypeError(
            f"expected a share of a GPU or a whole number of them, got '{text}'"
        )
    return value


@dataclass(frozen=True)
class BatchOptions:
    """Options of a batch."""

    config: str = option(MISSING, "deploy.yaml of the bundle", metavar="YAML")
    images: str = option(
        MISSING, "a folder, a .txt or .list of paths, or one image", metavar="PATH"
    )
    save_dir: str = option(MISSING, "for the results", metavar="PATH")
    address: str | None = option(None, "of a running cluster; by default Ray is started here")
    autoscaling: bool = option(
        False, "the cluster starts nodes on demand: wait where no node has room for a worker"
    )
    workers: int = option(1, "predictors", parse=positive_int)
    cpu_threads: int = option(1, "of a predictor", parse=positive_int)
    worker_gpus: float = option(
        0.0, "of a predictor; 0.25 lets four of them share one", parse=gpu_share
    )
    backend: str = option(
        "paddle", f"runtime of the network: {', '.join(NAMES)}", choices=NAMES, metavar="NAME"
    )
    precision: str | None = option(
        None,
        "fp32 (default), bf16, int8 or fp16; part of some names of --backend. bf16 is for CPUs "
        "with avx512_bf16 or AMX; int8 needs a bundle that `quantize` wrote; fp16 a GPU",
        choices=PRECISIONS,
    )
    device: Literal["cpu", "gpu"] | None = option(
        None, "where to run (default: gpu with --worker_gpus, else cpu)"
    )
    num_classes: int | None = option(
        None,
        "for a bundle of PaddleSeg's whose graph ends in argmax: it does not say it itself",
        parse=positive_int,
    )
    max_megapixels: float = option(
        25.0,
        "largest image, in millions of pixels, and of the network's input made from it; a larger "
        "one is a row with its error; 0: any, and a file of a few kB can end a worker",
        parse=natural_float,
    )
    part_size: int = option(1000, "rows in a part of the manifest", parse=positive_int)
    retry_errors: bool = option(False, "images with an error again")


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of every worker, wherever it runs."""

    config: str
    spec: RuntimeSpec
    num_classes: int | None
    max_pixels: int
    save_dir: str


def main(argv: list[str] | None = None) -> int | None:
    """Segment the images that have no row yet.

    Raises:
        UsageError: wrong flags, or a --save_dir of another recipe; no image was segmented then.
        CheckFailed: some images could not be segmented; the manifest says why.
    """
    arguments = parse_options(BatchOptions, __doc__ or "", argv)
    ray = _import_ray()
    settings = worker_settings(arguments)
    warn_of_old_opencv()
    images = list_images(arguments.images, settings.save_dir)
    manifest = Manifest(settings.save_dir)
    bundle = read_bundle(settings.config)
    manifest.claim(recipe_of(bundle, settings.spec, settings.num_classes))
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


def worker_settings(arguments: BatchOptions) -> WorkerSettings:
    """The settings that the options give a worker.

    Raises:
        UsageError: options that contradict each other.
    """
    flags = RuntimeFlags(backend=arguments.backend, precision=arguments.precision)
    device = arguments.device or ("gpu" if arguments.worker_gpus else "cpu")
    spec = named_runtime(flags, device, arguments.cpu_threads)
    if spec.device == "gpu" and not arguments.worker_gpus:
        raise UsageError(
            "--device gpu: Ray hides the GPUs from a worker that asks for none; "
            "give --worker_gpus 1, or a share of one"
        )
    if spec.device == "cpu":
        spec.check()  # whether there is a GPU, each worker checks
    return WorkerSettings(
        config=str(Path(arguments.config).resolve()),
        spec=spec,
        num_classes=arguments.num_classes,
        max_pixels=round(arguments.max_megapixels * 1e6),
        save_dir=absolute(arguments.save_dir, "--save_dir").rstrip("/"),
    )


def rows_of_unnameable(inputs: list[str]) -> Iterator[dict[str, Any]]:
    """A row per input whose name is not UTF-8, which neither Ray's tables nor Parquet can hold."""
    for path in inputs:
        if not is_text(path):
            yield _row_of_error(printable(path), "the file's name is not UTF-8; rename it")


def predict_all(inputs: list[str], arguments: BatchOptions) -> Iterator[dict[str, Any]]:
    """One row per input whose name is UTF-8, in any order."""
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
        Segmenter,
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


class Segmenter:
    """A worker: one predictor, many images."""

    def __init__(self, settings: WorkerSettings):
        """Opens the predictor; Ray calls it once per worker."""
        fix_thread_count(settings.spec.threads)
        bundle = read_bundle(settings.config)
        predictor = Predictor.of_bundle(bundle, settings.spec, settings.num_classes)
        self._predictor = by_its_rule(predictor)
        self._save_dir = settings.save_dir
        self._max_pixels = settings.max_pixels

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Rows of the manifest for a batch of inputs."""
        rows = [self._row(str(path)) for path in batch["input"]]
        return {column: [row[column] for row in rows] for column in COLUMNS}

    def _row(self, path: str) -> dict[str, Any]:
        # Any error of an image is its row: Ray ends the whole run at the first exception, and again
        # in every rerun. A full disk is not the image's error and ends the run.
        try:
            content = self._segment(path)
        except Exception as error:
            return _row_of_error(path, _reason(error))
        output = f"{self._save_dir}/{output_name(path)}"
        try:
            write_whole(output, content)
        except IsADirectoryError:
            return _row_of_error(path, f"{output}: a folder is where the label map goes")
        digest = hashlib.sha256(content).hexdigest()
        return dict(zip(COLUMNS, (path, output, digest, DONE, ""), strict=True))

    def _segment(self, path: str) -> bytes:
        filesystem, name = open_path(path, "image")
        # A pipe or a device of this machine would be waited for.
        content = read_file(name) if is_local(filesystem) else filesystem.cat_file(name)
        if not content:
            raise DataError(f"{path}: the file is empty (0 bytes)")
        require_few_pixels(content, path, self._max_pixels)
        image = decode_image(content, path, self._predictor.preprocess.orientation)
        network_hw = self._predictor.preprocess.network_hw(image.shape[:2])
        require_size(network_hw, f"{path}: after the bundle's transforms", self._max_pixels)
        found = self._predictor(image)
        return encode_label_map(found.label_map, found.class_table)


def _row_of_error(path: str, reason: str) -> dict[str, Any]:
    return dict(zip(COLUMNS, (path, "", "", ERROR, reason), strict=True))


def _reason(error: Exception) -> str:
    """One line for the manifest, with the error's type unless it is ours or the disk's."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    if isinstance(error, (DataError, OSError)):
        return printable(lines[0] if lines else kind)
    return printable(f"{kind}: {lines[0]}" if lines else kind)


def _start_ray(ray: Any, arguments: BatchOptions) -> None:
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
    """The end of a run in one line: wrong use where a worker cannot load, else lost work."""
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
