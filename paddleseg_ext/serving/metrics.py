"""Counters for Prometheus, in one registry per service: a process may have several services."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

PREFIX = "segmentation"
STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            f"{PREFIX}_requests",
            "Answers by path and status",
            ["path", "status"],
            registry=registry,
        )
        self.refused_images = Counter(
            f"{PREFIX}_refused_images",
            "Images refused because the queue was full",
            registry=registry,
        )
        self.images_in_service = Gauge(
            f"{PREFIX}_images_in_service", "Images accepted and not yet answered", registry=registry
        )
        self._images = Counter(f"{PREFIX}_images", "Images segmented", registry=registry)
        self._pixels = Counter(f"{PREFIX}_pixels", "Pixels of segmented images", registry=registry)
        self._stages = Histogram(
            f"{PREFIX}_stage_seconds",
            "Time of an image in each stage; network: of its whole batch",
            ["stage"],
            buckets=STAGE_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            f"{PREFIX}_batch_size",
            "Images that an image ran with",
            buckets=BATCH_SIZES,
            registry=registry,
        )

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
