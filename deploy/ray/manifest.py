"""Records in --save_dir: a row per image, and the recipe of the label maps."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from deploy.ray.storage import open_path, write_whole
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import sha256_of
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.table import ENGINES
from paddleseg_ext.inference.runtime import RuntimeSpec

DONE, ERROR = "done", "error"
COLUMNS = ("input", "output", "sha256", "status", "error")
RUN_FILE = "run.json"


def recipe_of(bundle: Bundle, spec: RuntimeSpec, num_classes: int | None) -> dict[str, Any]:
    """Everything that determines the label maps of a run, ready for JSON.

    Thread counts are not in it: they move a sum's last bit, and a run may continue elsewhere.

    Raises:
        UsageError: the bundle has no graph for the engine.
    """
    kind = ENGINES[spec.engine].graphs.get(spec.precision, "paddle")
    graph = bundle.graph_file(kind)
    weights = bundle.params_file if kind == "paddle" else None
    table = bundle.manifest.class_table if bundle.manifest else None
    palette = table.full_palette.tobytes() if table else None
    recipe = {
        "graph": sha256_of(graph),
        "weights": sha256_of(weights) if weights else None,
        "transforms": bundle.transforms,
        "color_order": bundle.color_order,
        "input_dtype": bundle.input_dtype,
        "output_op": bundle.output_op,
        "upsampling": bundle.manifest.upsampling if bundle.manifest else "graph",
        "native_stride": bundle.manifest.native_stride if bundle.manifest else 0,
        "palette": hashlib.sha256(palette).hexdigest() if palette else None,
        "num_classes": None if table else num_classes,
        "backend": f"{spec.engine}_trt" if spec.tensorrt else spec.engine,
        "precision": spec.precision,
        "device": spec.device,
    }
    plain: dict[str, Any] = json.loads(json.dumps(recipe, default=str))
    return plain


class Manifest:
    """The parts below SAVE_DIR/manifest; one process writes them, each part atomically."""

    def __init__(self, save_dir: str):
        """`save_dir` is a path of fsspec's.

        Raises:
            UsageError: no such protocol, or its package is not installed.
        """
        self._filesystem, root = open_path(save_dir, "--save_dir")
        self.folder = f"{root.rstrip('/')}/manifest"
        self._run_file = f"{root.rstrip('/')}/{RUN_FILE}"
        self._save_dir = save_dir.rstrip("/")
        self._url = f"{self._save_dir}/manifest"

    def claim(self, recipe: dict[str, Any]) -> None:
        """Record the recipe, before anything else is written to the folder.

        A folder without rows is free for any recipe.

        Raises:
            UsageError: it has rows of another recipe, or of none that can be read.
        """
        if self._parts():
            self._require_same(recipe)
            return
        text = json.dumps(recipe, indent=2) + "\n"
        write_whole(f"{self._save_dir}/{RUN_FILE}", text.encode())

    def _require_same(self, recipe: dict[str, Any]) -> None:
        remedy = "take another --save_dir"
        try:
            found = json.loads(self._filesystem.cat_file(self._run_file))
        except (FileNotFoundError, ValueError):
            found = None
        if not isinstance(found, dict):
            raise UsageError(
                f"--save_dir: '{self._save_dir}' has a manifest and no readable {RUN_FILE}, so "
                f"it is unknown what made its label maps; {remedy}"
            )
        differences = [
            f"{key} ({_brief(found.get(key))} there, {_brief(recipe.get(key))} now)"
            for key in dict.fromkeys([*recipe, *found])
            if found.get(key) != recipe.get(key)
        ]
        if differences:
            raise UsageError(
                f"--save_dir: the label maps in '{self._save_dir}' were made with another "
                f"{', '.join(differences)}; {remedy}"
            )

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
            rows: list[dict[str, Any]] = part_file.read(
                columns=list(columns), use_threads=False
            ).to_pylist()
        return rows

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
        """Drop the rows of images that failed, so that they are done again."""
        for part in self._parts():
            rows = self._read(part)
            kept = [row for row in rows if row["status"] == DONE]
            if len(kept) < len(rows):
                self._write(PurePosixPath(part).name, kept)

    def append(self, rows: Iterable[dict[str, Any]], part_size: int) -> None:
        """Write rows in parts as they come; rows before an exception are written, too."""
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


def _brief(value: Any) -> str:
    """A value as a message shows it: the first letters of a hash."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:12]}..."
