"""The benchmark sections that PaddleSeg's TIPC tools read, and percentiles beside the means."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paddleseg_ext.common.machine import peak_memory_mb
from paddleseg_ext.inference.predictor import Segmentation, Timings
from paddleseg_ext.inference.runtime import RuntimeReport

RULE = "-" * 22
PERCENTILES = (50, 90, 99)
STAGES = ("preprocess", "inference", "postprocess")


@dataclass
class Benchmark:
    """Collects the timings of a run.

    Attributes:
        report: of the engine.
        model_name: what the run is called.
        batch_size: images a run.
        warm_up_runs: runs of each input shape that were not counted.
    """

    report: RuntimeReport
    model_name: str
    batch_size: int
    warm_up_runs: int
    timings: list[Timings] = field(default_factory=list)
    shapes: set[tuple[int, ...]] = field(default_factory=set)

    def add(self, segmentation: Segmentation) -> None:
        """Count one predicted image."""
        self.timings.append(segmentation.timings)
        self.shapes.add((3, *segmentation.input_hw))

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
        report, stages = self.report, self.stage_ms()
        shapes = ["x".join(map(str, shape)) for shape in self.shapes]
        total_s = sum(s["mean"] for s in stages.values()) * len(self.timings) / 1000
        means = ", ".join(f"{s}_time(ms): {stages[s]['mean']:.3f}" for s in STAGES)
        threads = report.cpu_threads
        details = report.details
        sections: dict[str, dict[str, Any]] = {
            "Paddle info": {
                "paddle_version": details.get("paddle", "not used"),
                "paddle_commit": details.get("paddle_commit", "not used"),
            },
            "Conf info": {
                "backend": report.name,
                "runtime_device": report.device,
                "ir_optim": details.get("ir_optim", False),
                "enable_memory_optim": details.get("memory_optim", False),
                "enable_tensorrt": report.tensorrt_engines > 0,
                "enable_mkldnn": details.get("enable_mkldnn", False),
                "cpu_math_library_num_threads": "unknown" if threads is None else threads,
            },
            "Model info": {"model_name": self.model_name, "precision": report.precision},
            "Data info": {
                "batch_size": self.batch_size,
                "input_shape": shapes[0] if len(shapes) == 1 else "dynamic",
                "data_num": len(self.timings),
            },
            "Perf info": {
                "cpu_rss(MB)": f"{peak_memory_mb():.1f}",
                "warm_up_runs": self.warm_up_runs,
                "total time spent(s)": f"{total_s:.3f}",
            },
        }
        lines = []
        for title, entries in sections.items():
            lines.append(f"{RULE} {title} {RULE}")
            lines += [f"{key}: {value}" for key, value in entries.items()]
        lines += [_percentile_line(stage, stages[stage]) for stage in STAGES]
        return [*lines, means]


def _percentile_line(stage: str, values: Mapping[str, float]) -> str:
    return f"{stage}(ms): " + ", ".join(f"p{p}: {values[f'p{p}']:.3f}" for p in PERCENTILES)
