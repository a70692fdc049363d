"""Counters for Prometheus, in one registry per service: a process may have several services."""

from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

NAMESPACE = "segmentation"
STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        own: dict[str, Any] = {"namespace": NAMESPACE, "registry": registry}
        self.requests = Counter("requests", "Answers by path and status", ["path", "status"], **own)
        self.refused_images = Counter(
            "refused_images", "Images refused because the queue was full", **own
        )
        self.images_in_service = Gauge(
            "images_in_service", "Images accepted and not yet answered", **own
        )
        self._images = Counter("images", "Images segmented", **own)
        self._pixels = Counter("pixels", "Pixels of segmented images", **own)
        stages = "Time of an image in each stage; network: of its whole batch"
        self._stages = Histogram("stage_seconds", stages, ["stage"], buckets=STAGE_SECONDS, **own)
        batches = "Images that an image ran with"
        self._batches = Histogram("batch_size", batches, buckets=BATCH_SIZES, **own)

    def observe(self, timings_ms: dict[str, float], batch_size: int, pixels: int) -> None:
        """Count one segmented image."""
        self._images.inc()
        self._pixels.inc(pixels)
        self._batches.observe(batch_size)
        for stage, milliseconds in timings_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
