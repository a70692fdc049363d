"""Segment any number of images on a Ray cluster, or on this machine; the same command for both.

Paths are fsspec's: /data/images, s3://bucket/images, a list file with one path a line. Written
below --save_dir: label_maps/NAME.png (palette PNG, pixel value = class id, original size) and
manifest/part-*.parquet with a row for each image: input, output, sha256 of the output, status
(done or error), error. A worker that dies costs no image and doubles none, a rerun skips every
image that has a row, and a bad image is a row with its error.

  python deploy/ray/batch.py --config bundle/deploy.yaml --images /data/images --save_dir out
  ... --address auto            on a cluster that runs; the bundle's folder is on every node
  ... --workers 8 --worker_gpus 1 --device gpu
"""

import argparse
import hashlib
import math
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from paddleseg_ext.common import flags  # noqa: E402
from paddleseg_ext.common.errors import (  # noqa: E402
    CheckFailed,
    DataError,
    UsageError,
    run_command,
)
from paddleseg_ext.common.log import log  # noqa: E402
from paddleseg_ext.common.packages import optional_imports  # noqa: E402
from paddleseg_ext.common.progress import track  # noqa: E402
from paddleseg_ext.data.functional import IMAGE_SUFFIXES  # noqa: E402
from paddleseg_ext.inference.backends.open import BACKENDS  # noqa: E402
from paddleseg_ext.inference.bundle import read_bundle  # noqa: E402

REQUIREMENTS = "requirements-ray.txt"
DONE, ERROR = "done", "error"
COLUMNS = ("input", "output", "sha256", "status", "error")
WITHOUT_END = -1
RETRIES = 5  # of a block whose worker died; a file that kills every worker must not go on for ever
BLOCK_IMAGES = 64  # what a dead worker had begun is at most this


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker loads."""

    config: str
    backend: str
    device: str
    cpu_threads: int
    save_dir: str


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = flags.make_parser(__doc__ or "")
    parser.add_argument("--config", required=True, metavar="YAML", help="deploy.yaml of the bundle")
    parser.add_argument(
        "--images", required=True, metavar="PATH", help="a folder or a .txt or .list of paths"
    )
    parser.add_argument("--save_dir", required=True, metavar="PATH", help="for the results")
    parser.add_argument("--address", help="of a running cluster; by default Ray is started here")
    parser.add_argument("--workers", type=flags.positive_int, default=1, help="predictors")
    parser.add_argument("--cpu_threads", type=flags.positive_int, default=1, help="of a predictor")
    parser.add_argument("--worker_gpus", type=flags.natural_int, default=0, help="of a predictor")
    parser.add_argument("--backend", choices=BACKENDS, default="paddle", help="what runs it")
    flags.add_device_flag(parser)
    parser.add_argument(
        "--part_size", type=flags.positive_int, default=1000, help="rows in a part of the manifest"
    )
    parser.add_argument(
        "--retry_errors", type=flags.boolean, default=False, help="images with an error again"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Segment what has no row yet.

    Raises:
        CheckFailed: some images could not be segmented; the manifest says why.
    """
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    ray = _import_ray()
    read_bundle(arguments.config)
    manifest = Manifest(arguments.save_dir)
    if arguments.retry_errors:
        manifest.drop_errors()
    finished = manifest.inputs()
    inputs = [path for path in list_images(arguments.images) if path not in finished]
    log(f"[RAY] {len(inputs)} images to do, {len(finished)} have a row")
    if inputs:
        ray.init(address=arguments.address, log_to_driver=False, include_dashboard=False)
        try:
            rows = predict_all(inputs, arguments)
            manifest.append(track(rows, "segment", len(inputs)), arguments.part_size)
        except ray.exceptions.RayError as error:
            raise CheckFailed(
                f"Ray gave up: {str(error).splitlines()[0]}; what is done is kept, run it again"
            ) from error
        finally:
            ray.shutdown()
    counts = manifest.counts()
    log(f"[RAY] {counts.get(DONE, 0)} done, {counts.get(ERROR, 0)} errors; {manifest.folder}")
    if counts.get(ERROR):
        raise CheckFailed(f"{counts[ERROR]} images have an error; see {manifest.folder}")
    return None


def list_images(path: str) -> list[str]:
    """Every image below a folder or in a list, once, sorted, as full fsspec paths.

    Raises:
        UsageError: nothing is there.
    """
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(path)
    if not filesystem.exists(root):
        raise UsageError(f"--images: '{path}' does not exist")
    if filesystem.isdir(root):
        found = [
            filesystem.unstrip_protocol(name)
            for name in filesystem.find(root)
            if name.lower().endswith(IMAGE_SUFFIXES)
        ]
    else:
        lines = filesystem.cat_file(root).decode("utf-8").splitlines()
        found = [_full_path(line.strip()) for line in lines if line.strip()]
    if not found:
        raise UsageError(f"--images: no image is in '{path}'")
    return sorted(set(found))


def _full_path(path: str) -> str:
    import fsspec

    filesystem, name = fsspec.core.url_to_fs(path)
    return filesystem.unstrip_protocol(name)


def output_name(path: str) -> str:
    """A name that no other input has: its own, and a hash of where it lies.

    A repeated run of the same image therefore writes the same file again, and no second one.
    """
    digest = hashlib.sha256(path.encode()).hexdigest()[:16]
    return f"label_maps/{digest[:2]}/{PurePosixPath(path).stem}-{digest}.png"


def predict_all(inputs: list[str], arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each input, in any order, each once."""
    import ray

    settings = WorkerSettings(
        config=str(Path(arguments.config).resolve()),
        backend=arguments.backend,
        device=arguments.device or "cpu",
        cpu_threads=arguments.cpu_threads,
        save_dir=arguments.save_dir,
    )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    blocks = min(len(inputs), max(arguments.workers * 4, math.ceil(len(inputs) / BLOCK_IMAGES)))
    predictions = ray.data.from_items(
        [{"input": path} for path in inputs], override_num_blocks=blocks
    ).map_batches(
        Predictor,
        fn_constructor_args=(settings,),
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
        from paddleseg_ext.inference.backends.open import open_backend
        from paddleseg_ext.inference.class_table import find_class_table

        fix_thread_count(settings.cpu_threads)
        bundle = read_bundle(settings.config)
        self._backend = open_backend(
            bundle, settings.backend, threads=settings.cpu_threads, device=settings.device
        )
        self._preprocess = bundle.preprocess()
        self._postprocess = bundle.postprocess()
        self._table = find_class_table(bundle, self._backend, None)
        self._save_dir = settings.save_dir.rstrip("/")

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Rows of the manifest for a batch of inputs."""
        rows = [self._row(str(path)) for path in batch["input"]]
        return {column: [row[column] for row in rows] for column in COLUMNS}

    def _row(self, path: str) -> dict[str, Any]:
        output = f"{self._save_dir}/{output_name(path)}"
        try:
            content = self._segment(path)
        except (DataError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            return dict(zip(COLUMNS, (path, "", "", ERROR, reason), strict=True))
        write_whole(output, content)
        digest = hashlib.sha256(content).hexdigest()
        return dict(zip(COLUMNS, (path, output, digest, DONE, ""), strict=True))

    def _segment(self, path: str) -> bytes:
        import fsspec

        from paddleseg_ext.data.functional import decode_image
        from paddleseg_ext.inference.outputs import encode_label_map

        filesystem, name = fsspec.core.url_to_fs(path)
        tensor, geometry = self._preprocess(decode_image(filesystem.cat_file(name), path))
        output = self._backend.run(tensor[None])[0]
        return encode_label_map(self._postprocess.label_map(output, geometry), self._table)


def write_whole(path: str, content: bytes) -> None:
    """Write a file so that no half of one is ever under its name.

    An object store does that by itself; a file system needs a second name and a move.
    """
    import fsspec

    filesystem, name = fsspec.core.url_to_fs(path)
    filesystem.makedirs(str(PurePosixPath(name).parent), exist_ok=True)
    if "file" not in filesystem.protocol:
        filesystem.pipe_file(name, content)
        return
    temporary = f"{name}.{os.getpid()}.writing"
    filesystem.pipe_file(temporary, content)
    filesystem.mv(temporary, name)


class Manifest:
    """The parts below SAVE_DIR/manifest; one process writes them, each part whole."""

    def __init__(self, save_dir: str):
        """`save_dir` is fsspec's."""
        import fsspec

        self._filesystem, root = fsspec.core.url_to_fs(save_dir)
        self.folder = f"{root.rstrip('/')}/manifest"
        self._url = f"{save_dir.rstrip('/')}/manifest"

    def _parts(self) -> list[str]:
        if not self._filesystem.isdir(self.folder):
            return []
        self._filesystem.invalidate_cache()
        return sorted(self._filesystem.glob(f"{self.folder}/part-*.parquet"))

    def _read(self, part: str, columns: Iterable[str] = COLUMNS) -> list[dict[str, Any]]:
        import pyarrow.parquet

        with self._filesystem.open(part, "rb") as file:
            # `read_table` leaves threads behind that can abort the process as it ends.
            part_file = pyarrow.parquet.ParquetFile(file)
            return part_file.read(columns=list(columns), use_threads=False).to_pylist()

    def _write(self, part: str, rows: list[dict[str, Any]]) -> None:
        import pyarrow
        import pyarrow.parquet

        schema = pyarrow.schema([(column, pyarrow.string()) for column in COLUMNS])
        buffer = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), buffer)
        write_whole(f"{self._url}/{part}", buffer.getvalue().to_pybytes())

    def inputs(self) -> set[str]:
        """Every input that has a row."""
        return {row["input"] for part in self._parts() for row in self._read(part, ["input"])}

    def counts(self) -> dict[str, int]:
        """Rows by status."""
        found: dict[str, int] = {}
        for part in self._parts():
            for row in self._read(part, ["status"]):
                found[row["status"]] = found.get(row["status"], 0) + 1
        return found

    def drop_errors(self) -> None:
        """Forget images that failed, so that they are done again."""
        for part in self._parts():
            rows = self._read(part)
            kept = [row for row in rows if row["status"] == DONE]
            if len(kept) < len(rows):
                self._write(PurePosixPath(part).name, kept)

    def append(self, rows: Iterable[dict[str, Any]], part_size: int) -> None:
        """Write rows in parts as they come; what came before an end is kept."""
        number = 1 + max((_number(part) for part in self._parts()), default=-1)
        waiting: list[dict[str, Any]] = []
        try:
            for row in rows:
                waiting.append(row)
                if len(waiting) == part_size:
                    self._write(f"part-{number:06d}.parquet", waiting)
                    number, waiting = number + 1, []
        finally:
            if waiting:
                self._write(f"part-{number:06d}.parquet", waiting)


def _number(part: str) -> int:
    return int(PurePosixPath(part).stem.removeprefix("part-"))


def _import_ray() -> Any:
    with optional_imports("batches on Ray", f"-r {REQUIREMENTS}"):
        import ray
        import ray.data
    return ray


if __name__ == "__main__":
    run_command(main)
