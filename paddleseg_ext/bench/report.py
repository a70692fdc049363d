"""The measurements as a table, CSV, JSON and a picture of speed and accuracy."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.bench.picture import FAILED, PASSED, UNKNOWN, draw_picture
from paddleseg_ext.bench.worker import Candidate, Turn
from paddleseg_ext.common.files import write_json, write_text
from paddleseg_ext.evaluation.turns import (
    LABELS_PARTS,
    NETWORK_PARTS,
    PARTS,
    Measured,
    advice,
)
from paddleseg_ext.inference.benchmark import PERCENTILES
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.scoring.metrics import plain, summarize

TABLE, RESULT, PICTURE = "bench.csv", "bench.json", "speed_accuracy.png"


@dataclass
class Row:
    """The measurements of one candidate.

    Attributes:
        turns: one for each round.
        new_sizes_s: the network's first run of each input size, in the rounds before, too.
        throughputs: batch size -> images a second, one for each round; empty where it cannot run.
        throughput_hw: of the network's input, in these.
        consistency: of a video's frames, where one was given.
    """

    candidate: Candidate
    bundle: Bundle
    report: RuntimeReport
    turns: list[Turn] = field(default_factory=list)
    new_sizes_s: list[float] = field(default_factory=list)
    throughputs: dict[int, list[float]] = field(default_factory=dict)
    throughput_hw: tuple[int, int] = (0, 0)
    peak_memory_mb: float = 0.0
    consistency: float | None = None

    @property
    def parity(self) -> str:
        """The verdict that the bundle records of this runtime, for this CPU and version."""
        spec = self.candidate.spec
        found = self.bundle.verified.get(spec.name)
        if found is None or spec.device != "cpu":
            return UNKNOWN
        if not found.is_of_this_cpu or found.foreign_version(spec.engine):
            return UNKNOWN
        return PASSED if found.passed else FAILED

    def parts_ms(self) -> dict[str, float]:
        """Part -> median milliseconds."""
        return {
            part: float(np.median([turn.seconds[part] for turn in self.turns])) * 1000
            for part in PARTS
        }

    def latency_ms(self, parts: Sequence[str] = NETWORK_PARTS) -> dict[str, float]:
        """Percentiles of the parts' sum, in milliseconds; of the network by default."""
        sums = [sum(turn.seconds[part] for part in parts) * 1000 for turn in self.turns]
        points = np.percentile(sums, PERCENTILES)
        return {f"p{p}": float(value) for p, value in zip(PERCENTILES, points, strict=True)}

    def images_per_second(self) -> dict[int, float | None]:
        """Batch size -> median over the rounds."""
        return {
            size: float(np.median(values)) if values else None
            for size, values in self.throughputs.items()
        }

    def measured(self) -> Measured:
        """The figures of the closing line."""
        spec = self.candidate.spec
        found = self.bundle.verified.get(spec.name)
        known = found is not None and self.parity != UNKNOWN
        return Measured(
            self.candidate.name,
            spec.precision,
            [sum(turn.seconds[part] for part in LABELS_PARTS) for turn in self.turns],
            found.passed if known and found else None,
            found.different if known and found else None,
        )

    @property
    def checkpoint(self) -> str | None:
        """The sha256 of the weights that were exported."""
        return self.bundle.manifest.checkpoint.get("sha256") if self.bundle.manifest else None

    @property
    def _cost(self) -> Mapping[str, Any]:
        """The cost that the bundle records; empty where it records none."""
        return self.bundle.manifest.cost if self.bundle.manifest else {}

    def _work(self) -> list[float]:
        """Multiply-adds of each turn, scaled by area from the recorded cost; else none."""
        if not self._cost:
            return []
        _, _, height, width = self._cost["input_shape"]
        each = self._cost["multiply_adds"] / (height * width)
        return [float(each * np.prod(turn.input_hw)) for turn in self.turns]

    def multiply_adds(self) -> float | None:
        """Mean over the images of the run."""
        return float(np.mean(self._work())) if self._work() else None

    def gflops(self) -> float | None:
        """Achieved GFLOP/s, with 2 operations per multiply-add: the median over the runs."""
        runs = zip(self._work(), self.turns, strict=False)
        achieved = [2 * work / turn.seconds["run"] / 1e9 for work, turn in runs]
        return float(np.median(achieved)) if achieved else None

    def mean_iou(self) -> float | None:
        """Mean IoU of the images that have labels; an image that came twice counts twice."""
        counts = [turn.counts for turn in self.turns if turn.counts is not None]
        # Labels may hold nothing but ignored pixels.
        return plain(summarize(np.sum(counts, axis=0)).mean_iou) if counts else None

    def to_json(self, peak_gflops: float) -> dict[str, Any]:
        """The row of bench.json."""
        gflops = self.gflops()
        return {
            "name": self.candidate.name,
            "bundle": str(self.bundle.deploy_file),
            "checkpoint": self.checkpoint,
            "stage": self.candidate.spec.name,
            "threads": self.candidate.spec.threads,
            "streams": self.candidate.spec.streams,
            "pinned": self.candidate.spec.pinned,
            "parity": self.parity,
            "labels_ms": self.latency_ms(LABELS_PARTS),
            "network_ms": self.latency_ms(),
            "image_ms": self.latency_ms(PARTS),
            "parts_ms": self.parts_ms(),
            "new_size_ms": float(np.median(self.new_sizes_s)) * 1000 if self.new_sizes_s else None,
            "new_sizes": len(self.new_sizes_s),
            "images_per_second": {str(k): v for k, v in self.images_per_second().items()},
            "images_per_second_of": "{1}x{0}".format(*self.throughput_hw),
            "peak_memory_mb": self.peak_memory_mb,
            "parameters": self._cost.get("parameters"),
            "multiply_adds": self.multiply_adds(),
            "gflops": gflops,
            "share_of_peak": None if gflops is None else gflops / peak_gflops,
            "mean_iou": self.mean_iou(),
            "consistency": self.consistency,
            "backend": self.report.to_dict(),
        }


def flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the CSV: nested keys joined, the runtime's own words left out."""
    row: dict[str, Any] = {}
    for key, value in result.items():
        if key == "backend":
            continue
        if isinstance(value, Mapping):
            row |= {f"{key}_{inner}": number for inner, number in value.items()}
        else:
            row[key] = value
    return row


def table_lines(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """For people: one line a candidate; one that failed parity is marked.

    The percentiles and images a second are those of network and label map.
    """
    sizes = list(results[0]["images_per_second"])
    header = ["candidate", "p50 ms", "p90", "p99", "network p50", "image p50", "new size"]
    header += [f"img/s b{size}" for size in sizes]
    header += ["of size", "MB", "M param", "G madd", "GFLOP/s", "of peak", "mIoU"]
    is_film = any(result["consistency"] is not None for result in results)
    header += [*(["consistency"] if is_film else []), "parity"]
    rows = [header]
    for result in results:
        labels, parity = result["labels_ms"], result["parity"]
        rows.append(
            [
                result["name"],
                *(f"{labels[f'p{p}']:.1f}" for p in PERCENTILES),
                f"{result['network_ms']['p50']:.1f}",
                f"{result['image_ms']['p50']:.1f}",
                _number(result["new_size_ms"], 1),
                *(_number(result["images_per_second"][size], 1) for size in sizes),
                result["images_per_second_of"],
                f"{result['peak_memory_mb']:.0f}",
                _number(result["parameters"], 2, 1e6),
                _number(result["multiply_adds"], 2, 1e9),
                _number(result["gflops"], 1),
                _number(result["share_of_peak"], 2),
                _number(result["mean_iou"], 4),
                *([_number(result["consistency"], 4)] if is_film else []),
                f"{parity} !!" if parity == FAILED else parity,
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def part_lines(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Median milliseconds of each part."""
    width = max(len(result["name"]) for result in results)
    return [
        f"{result['name']:<{width}}  "
        + ", ".join(f"{part} {result['parts_ms'][part]:.2f}" for part in PARTS)
        for result in results
    ]


def advice_lines(rows: Sequence[Row], kept: Mapping[str, str]) -> list[str]:
    """Which candidate to take, a line for each checkpoint.

    Args:
        rows: after the rounds.
        kept: bundle folder -> the name of the candidate that `--backend auto` takes there.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        folder = str(row.bundle.deploy_file.parent)
        groups.setdefault(row.checkpoint or folder, []).append(row)
    lines = []
    for members in groups.values():
        folders = list(
            dict.fromkeys(row.bundle.deploy_file.resolve().parent.name for row in members)
        )
        before = next((kept[name] for name in folders if name in kept), "")
        prefix = f"{', '.join(folders)}: " if len(groups) > 1 else ""
        lines.append(prefix + advice([row.measured() for row in members], before))
    return lines


def _number(value: float | None, digits: int, unit: float = 1.0) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"


def write_results(
    save_dir: Path, machine: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> list[Path]:
    """Write CSV, JSON, and where accuracy is known the picture; returns the files."""
    rows = [flat(result) for result in results]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_text(save_dir / TABLE, text.getvalue())
    write_json(save_dir / RESULT, {"machine": dict(machine), "results": list(results)})
    files = [save_dir / TABLE, save_dir / RESULT]
    if any(result["mean_iou"] is not None for result in results):
        draw_picture(save_dir / PICTURE, results)
        files.append(save_dir / PICTURE)
    return files
