"""The benchmark sections that PaddleSeg's TIPC tools read, and percentiles beside the means."""

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paddleseg_ext.inference.pipeline import Prediction, Timings

RULE = "-" * 22
PERCENTILES = (50, 90, 99)
STAGES = ("preprocess", "inference", "postprocess")


@dataclass
class Benchmark:
    """Collects the timings of a run.

    Attributes:
        backend: `Backend.describe()`.
        model_name: what the run is called.
        batch_size: images a run.
        warm_up_runs: runs of each input shape that were not counted.
    """

    backend: Mapping[str, Any]
    model_name: str
    batch_size: int
    warm_up_runs: int
    timings: list[Timings] = field(default_factory=list)
    shapes: set[tuple[int, ...]] = field(default_factory=set)

    def add(self, prediction: Prediction) -> None:
        """Count one predicted image."""
        assert prediction.input_hw is not None
        self.timings.append(prediction.timings)
        self.shapes.add((3, *prediction.input_hw))

    def stage_ms(self) -> dict[str, dict[str, float]]:
        """Stage -> mean, p50, p90, p99 in milliseconds an image."""
        table = {}
        for stage in STAGES:
            values = [getattr(timing, f"{stage}_ms") for timing in self.timings] or [0.0]
            points = np.percentile(values, PERCENTILES)
            table[stage] = {"mean": float(np.mean(values))} | {
                f"p{p}": float(point) for p, point in zip(PERCENTILES, points, strict=True)
            }
        return table

    def lines(self) -> list[str]:
        """The sections, the line that tools parse last."""
        backend, stages = self.backend, self.stage_ms()
        shapes = ["x".join(map(str, shape)) for shape in self.shapes]
        total_s = sum(s["mean"] for s in stages.values()) * len(self.timings) / 1000
        means = ", ".join(f"{s}_time(ms): {stages[s]['mean']:.3f}" for s in STAGES)
        return [
            *_section("Paddle info", _paddle_info(backend)),
            *_section("Conf info", _conf_info(backend)),
            *_section(
                "Model info",
                {"model_name": self.model_name, "precision": backend.get("precision", "fp32")},
            ),
            *_section(
                "Data info",
                {
                    "batch_size": self.batch_size,
                    "input_shape": shapes[0] if len(shapes) == 1 else "dynamic",
                    "data_num": len(self.timings),
                },
            ),
            *_section(
                "Perf info",
                {
                    "cpu_rss(MB)": f"{_peak_memory_mb():.1f}",
                    "warm_up_runs": self.warm_up_runs,
                    "total time spent(s)": f"{total_s:.3f}",
                },
            ),
            *(_percentile_line(stage, stages[stage]) for stage in STAGES),
            means,
        ]


def _section(title: str, entries: Mapping[str, Any]) -> Sequence[str]:
    return [f"{RULE} {title} {RULE}", *(f"{key}: {value}" for key, value in entries.items())]


def _paddle_info(backend: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "paddle_version": backend.get("paddle", "not used"),
        "paddle_commit": backend.get("paddle_commit", "not used"),
    }


def _conf_info(backend: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "backend": backend["name"],
        "runtime_device": backend.get("device", "cpu"),
        "ir_optim": backend.get("ir_optim", False),
        "enable_memory_optim": backend.get("memory_optim", False),
        "enable_tensorrt": backend.get("tensorrt_engines", 0) > 0,
        "enable_mkldnn": backend.get("enable_mkldnn", False),
        "cpu_math_library_num_threads": backend.get("cpu_threads", "unknown"),
    }


def _percentile_line(stage: str, values: Mapping[str, float]) -> str:
    return f"{stage}(ms): " + ", ".join(f"p{p}: {values[f'p{p}']:.3f}" for p in PERCENTILES)


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
