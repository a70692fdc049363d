"""The service without HTTP: bytes in, label map out; a bounded number of images at a time."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Backend
from paddleseg_ext.inference.outputs import encode_label_map, encode_overlay
from paddleseg_ext.inference.preprocess import FloatImage, Geometry
from paddleseg_ext.serving.batching import Batcher, BatchLimits, NetworkOutput
from paddleseg_ext.serving.images import ImageLimits, Refused, decode_upload
from paddleseg_ext.serving.metrics import Metrics

T = TypeVar("T")
Output = Literal["labels", "overlay", "json"]
Orientation = Literal["stored", "upright"]
RECENT = 32  # answers whose network time tells when to come again
WAITED = 0.1  # share of the deadline; who waited for others so long may try again
HELPERS = 2  # threads that decode, pre- and post-process beside the network


@dataclass(frozen=True)
class ServiceSettings:
    """The service's bounds.

    Attributes:
        limits: of an image.
        max_batch: images in a run.
        max_wait_ms: how long the first of a batch waits for others.
        queue_size: images accepted and not yet answered; more are refused.
        deadline_s: from the request's arrival to its answer.
    """

    limits: ImageLimits
    max_batch: int
    max_wait_ms: float
    queue_size: int
    deadline_s: float


@dataclass(frozen=True)
class Segmentation:
    """One image's answer.

    Attributes:
        label_map: (H, W) uint8 class ids.
        class_pixels: how many pixels each class has.
        network_hw: what the network saw of the image.
        encoded: PNG of the label map or JPEG of the overlay, as asked for; None for `json`.
        batch_size: images that ran together.
        timings_ms: `decode`, `preprocess`, `queue`, `network`, `postprocess`, `encode`.
    """

    label_map: NDArray[np.uint8]
    class_pixels: list[int]
    network_hw: tuple[int, int]
    encoded: bytes | None
    batch_size: int
    timings_ms: dict[str, float]


@dataclass
class _Own:
    """Seconds that an image itself took so far; the rest of its time it waited for others."""

    seconds: float = 0.0


@dataclass(frozen=True)
class _Prepared:
    image: NDArray[np.uint8]
    tensor: FloatImage
    geometry: Geometry
    timings_ms: dict[str, float]


class SegmentationService:
    """A loaded bundle that answers many at a time; made and used inside one event loop."""

    def __init__(
        self, bundle: Bundle, backend: Backend, table: ClassTable, settings: ServiceSettings
    ):
        """
        Args:
            bundle: what is served.
            backend: of that bundle, warm.
            table: the bundle's classes.
            settings: the bounds.
        """
        self.bundle = bundle
        self.backend_description = backend.describe()
        self.table = table
        self.settings = settings
        self.metrics = Metrics()
        self._preprocess = bundle.preprocess()
        self._postprocess = bundle.postprocess()
        max_batch = settings.max_batch
        fixed_batch = (bundle.input_shape or [None])[0]
        if fixed_batch is not None and fixed_batch > 0:
            max_batch = 1
        limits = BatchLimits(max_batch, settings.limits.max_pixels, settings.max_wait_ms / 1000)
        self._batcher = Batcher(backend.run, limits)
        self._helpers = ThreadPoolExecutor(HELPERS, thread_name_prefix="helper")
        # One batch is in the network, one is made ready, one image is on its way out: only so many
        # are held decoded, whatever waits.
        self._room = asyncio.Semaphore(2 * max_batch + 1)
        self._admitted = 0
        self._paces_s: deque[float] = deque(maxlen=RECENT)

    @property
    def is_ready(self) -> bool:
        """Whether images are taken."""
        return self._batcher.is_alive

    def close(self) -> None:
        """Finish what was accepted, then stop."""
        self._batcher.close()
        self._helpers.shutdown()

    def require_room(self, images: int = 1) -> None:
        """Refuse what there is no place for.

        Raises:
            Refused: 503, with the seconds after which a place may be free.
        """
        if not self.is_ready:
            raise Refused(503, "the service is stopping", retry_after_s=1)
        if images > self.settings.queue_size:
            raise Refused(413, f"at most {self.settings.queue_size} images at a time are expected")
        if self._admitted + images > self.settings.queue_size:
            self.metrics.refused_images.inc(images)
            raise Refused(
                503, "the queue is full; try again later", self._seconds_until_free(images)
            )

    @asynccontextmanager
    async def admission(self, images: int = 1) -> AsyncIterator[None]:
        """A place for images, held until they are answered.

        Raises:
            Refused: as `require_room`.
        """
        self.require_room(images)
        self._admitted += images
        self.metrics.images_in_service.set(self._admitted)
        try:
            yield
        finally:
            self._admitted -= images
            self.metrics.images_in_service.set(self._admitted)

    async def segment(
        self, content: bytes, output: Output, orientation: Orientation
    ) -> Segmentation:
        """Answer for one admitted image.

        Args:
            content: of an image file.
            output: what is encoded.
            orientation: `stored` takes the pixels as they are in the file, as `infer.py` does;
                `upright` applies the camera's orientation tag to image and answer.

        Raises:
            Refused: 4xx, what is wrong with the image; 503 where it is cancelled after it waited
                for others for long.
        """
        arrived, own = time.perf_counter(), _Own()
        try:
            async with self._room:
                waited_ms = _since(arrived)
                prepared = await self._help(lambda: self._prepare(content, orientation))
                own.seconds = sum(prepared.timings_ms.values()) / 1000
                result = await self._run(prepared.tensor, own)
                answer = await self._help(lambda: self._finish(prepared, result, waited_ms, output))
        except asyncio.CancelledError:
            deadline_s = self.settings.deadline_s
            if time.perf_counter() - arrived - own.seconds < WAITED * deadline_s:
                raise
            raise Refused(
                503,
                f"not done within the deadline of {deadline_s:g} s, others came before it",
                self._seconds_until_free(1),
            ) from None
        self._count(answer)
        return answer

    def _prepare(self, content: bytes, orientation: Orientation) -> _Prepared:
        start = time.perf_counter()
        image = decode_upload(
            content, self.settings.limits, self._preprocess, orientation == "upright"
        )
        decode_ms = _since(start)
        start = time.perf_counter()
        tensor, geometry = self._preprocess(image)
        timings_ms = {"decode": decode_ms, "preprocess": _since(start)}
        return _Prepared(image, tensor, geometry, timings_ms)

    async def _run(self, tensor: FloatImage, own: _Own) -> NetworkOutput:
        future = self._batcher.submit(tensor)
        try:
            result = await asyncio.wrap_future(future)
        except DataError as error:  # a size that the graph was not exported for
            raise Refused(422, str(error)) from None
        except asyncio.CancelledError:
            since = self._batcher.running_since
            if future.running() and since is not None:  # it runs on: no runtime can be stopped
                own.seconds += time.perf_counter() - since
            raise
        own.seconds += result.network_ms / 1000
        return result

    def _finish(
        self, prepared: _Prepared, result: NetworkOutput, waited_ms: float, output: Output
    ) -> Segmentation:
        start = time.perf_counter()
        try:
            label_map = self._postprocess.label_map(result.output, prepared.geometry)
        except DataError as error:
            raise Refused(422, str(error)) from None
        postprocess_ms = _since(start)
        start = time.perf_counter()
        encoded = None
        if output == "labels":
            encoded = encode_label_map(label_map, self.table)
        elif output == "overlay":
            encoded = encode_overlay(prepared.image, label_map, self.table)
        timings_ms = prepared.timings_ms | {
            "queue": waited_ms + result.wait_ms,
            "network": result.network_ms,
            "postprocess": postprocess_ms,
            "encode": _since(start),
        }
        return Segmentation(
            label_map=label_map,
            class_pixels=np.bincount(label_map.ravel(), minlength=self.table.num_classes).tolist(),
            network_hw=prepared.geometry.network_hw,
            encoded=encoded,
            batch_size=result.batch_size,
            timings_ms=timings_ms,
        )

    async def _help(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._helpers, work)

    def _count(self, answer: Segmentation) -> None:
        self._paces_s.append(answer.timings_ms["network"] / 1000 / answer.batch_size)
        self.metrics.observe(answer.timings_ms, answer.batch_size, answer.label_map.size)

    def _seconds_until_free(self, images: int) -> int:
        """At the pace of the last answers; at least a second, at most the deadline."""
        pace_s = float(np.median(self._paces_s)) if self._paces_s else 1.0
        return max(1, math.ceil(min(pace_s * images, self.settings.deadline_s)))

    def class_shares(self, answer: Segmentation) -> list[dict[str, Any]]:
        """Pixels and share of each class, in the order of their ids."""
        size = answer.label_map.size
        return [
            described | {"pixels": pixels, "share": pixels / size}
            for described, pixels in zip(self.classes(), answer.class_pixels, strict=True)
        ]

    def classes(self) -> list[dict[str, Any]]:
        """Id, name and colour of each class."""
        return [
            {"id": i, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*color)}
            for i, (name, color) in enumerate(
                zip(self.table.class_names, self.table.palette.tolist(), strict=True)
            )
        ]


def _since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
