"""The service without HTTP: an image file in, a label map out; a bounded number at a time."""

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

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.inference.outputs import (
    encode_confidence,
    encode_label_map,
    encode_overlay,
)
from paddleseg_ext.inference.postprocess import NO_SCORES
from paddleseg_ext.inference.predictor import Predictor, Prepared, Segmentation
from paddleseg_ext.inference.web.folder import class_entries
from paddleseg_ext.serving.batching import Batcher, BatchLimits, BatchShare, TooLate
from paddleseg_ext.serving.deadlines import until
from paddleseg_ext.serving.images import Refused, check_network_size, check_size, decode_upload
from paddleseg_ext.serving.metrics import Metrics
from paddleseg_ext.serving.options import ServiceSettings

T = TypeVar("T")
Encoding = Literal["labels", "overlay", "confidence", "json"]
RECENT = 32  # answers whose network time gives Retry-After
WAITED = 0.1  # share of the deadline; an image that waited longer for others may be sent again
DOUBTFUL = (0.5, 0.7, 0.9)  # confidences below which shares are given
HELPERS = 2  # threads that decode, pre- and postprocess beside the network


@dataclass(frozen=True)
class Answer:
    """The answer for one image.

    Attributes:
        segmentation: of the predictor.
        class_pixels: pixels per class id.
        encoded: PNG of the label map or of the confidence, or JPEG of the overlay, as asked for;
            None for `json`.
        timings_ms: `decode`, `preprocess`, `queue`, `network`, `postprocess`, `encode`.
    """

    segmentation: Segmentation
    class_pixels: list[int]
    encoded: bytes | None
    timings_ms: dict[str, float]


@dataclass
class _Own:
    """Seconds that an image itself took so far; the rest of its time it waited for others."""

    seconds: float = 0.0


class SegmentationService:
    """A predictor behind a bounded queue; used inside one event loop."""

    def __init__(self, predictor: Predictor, settings: ServiceSettings):
        """
        Args:
            predictor: warm; closed with the service.
            settings: the bounds.
        """
        self.predictor = predictor
        self.table = predictor.class_table
        self.settings = settings
        self.metrics = Metrics()
        max_batch = settings.max_batch
        shape = predictor.bundle.input_shape if predictor.bundle else None
        if shape and shape[0] is not None and shape[0] > 0:  # the graph's own, filled up
            max_batch = 1
        limits = BatchLimits(max_batch, settings.limits.max_pixels, settings.max_wait_ms / 1000)
        self._batcher = Batcher(predictor.run, limits)
        self._helpers = ThreadPoolExecutor(HELPERS, thread_name_prefix="helper")
        # One batch is in the network, the next one is prepared, one image is finished: only so many
        # are held decoded, however many wait.
        self._room = asyncio.Semaphore(2 * max_batch + 1)
        self._admitted = 0
        self._paces_s: deque[float] = deque(maxlen=RECENT)

    @property
    def is_ready(self) -> bool:
        """Whether images are accepted."""
        return self._batcher.is_alive

    def close(self) -> None:
        """Finish what was accepted, then stop."""
        self._batcher.close()
        self._helpers.shutdown()
        self.predictor.close()

    def require_room(self, images: int = 1) -> None:
        """Refuse images for which the queue has no place.

        Raises:
            Refused: 503, with the seconds after which a place may be free; 413 for more images than
                the queue has places.
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
        self,
        source: bytes | NDArray[np.uint8],
        encoding: Encoding,
        orientation: Orientation | None,
        with_confidence: bool = False,
        unknown_below: float | None = None,
    ) -> Answer:
        """The answer for one admitted image.

        Args:
            source: of an image file, or (H, W, 3) uint8 RGB pixels, which are taken as they are.
            encoding: of `Answer.encoded`.
            orientation: `stored` takes the pixels as they are in the file; `upright` applies the
                camera's orientation tag to image and answer; None reads as the bundle says, as
                `infer` does.
            with_confidence: whether the segmentation has it also where it is not encoded.
            unknown_below: a confidence between 0 and 1; pixels below it are unknown.

        Raises:
            Refused: 4xx where the image cannot be used; 503 where it is cancelled, or not run,
                after a long wait for other images.
        """
        finishing = self._finishing(with_confidence or encoding == "confidence", unknown_below)
        arrived, own = time.perf_counter(), _Own()
        try:
            async with self._room:
                waited_ms = _since(arrived)
                prepared, decode_ms = await self.help(lambda: self._prepare(source, orientation))
                own.seconds = (decode_ms + prepared.preprocess_ms) / 1000
                share = await self._run(prepared, own)
                timings_ms = {
                    "decode": decode_ms,
                    "preprocess": prepared.preprocess_ms,
                    "queue": waited_ms + share.wait_ms,
                    "network": share.network_ms,
                }
                answer = await self.help(
                    lambda: self._finish(finishing, (prepared, share), timings_ms, encoding)
                )
        except asyncio.CancelledError:
            if time.perf_counter() - arrived - own.seconds < WAITED * self.settings.deadline:
                raise
            raise self._others_came_before() from None
        self._count(answer)
        return answer

    def _others_came_before(self) -> Refused:
        """The refusal of an image that waited for others until it was too late."""
        return Refused(
            503,
            f"not done within the deadline of {self.settings.deadline:g} s, others came before it",
            self._seconds_until_free(1),
        )

    def _prepare(
        self, source: bytes | NDArray[np.uint8], orientation: Orientation | None
    ) -> tuple[Prepared, float]:
        """The network's input, and the milliseconds of decoding."""
        start = time.perf_counter()
        preprocess, limits = self.predictor.preprocess, self.settings.limits
        if isinstance(source, bytes):
            reading = orientation or preprocess.orientation
            image = decode_upload(source, limits, preprocess, reading)
        else:
            image = source
            check_size(image.shape[:2], limits)
            check_network_size(image.shape[:2], limits, preprocess)
        decode_ms = _since(start)
        return self.predictor.prepare(image), decode_ms

    async def _run(self, prepared: Prepared, own: _Own) -> BatchShare:
        future = self._batcher.submit(prepared, until())
        try:
            share = await asyncio.wrap_future(future)
        except DataError as error:  # a size that the graph was not exported for
            raise Refused(422, str(error)) from None
        except TooLate:
            raise self._others_came_before() from None
        except asyncio.CancelledError:
            since = self._batcher.running_since
            if future.running() and since is not None:  # it runs on: no engine can be stopped
                own.seconds += time.perf_counter() - since
            raise
        own.seconds += share.network_ms / 1000
        return share

    def _finishing(self, with_confidence: bool, unknown_below: float | None) -> Predictor:
        """The predictor whose `finish` makes the segmentation.

        Raises:
            Refused: 422, there is no confidence, or no value is left for unknown pixels.
        """
        if not with_confidence and unknown_below is None:
            return self.predictor
        if self.predictor.postprocess.output_op == "argmax":
            raise Refused(422, NO_SCORES)
        try:
            return self.predictor.with_outputs(
                {"confidence"} if with_confidence else (), unknown_below
            )
        except UsageError as error:
            raise Refused(422, str(error)) from None

    def _finish(
        self,
        predictor: Predictor,
        ran: tuple[Prepared, BatchShare],
        timings_ms: dict[str, float],
        encoding: Encoding,
    ) -> Answer:
        prepared, share = ran
        try:
            segmentation = predictor.finish(
                prepared, share.output, share.geometry, share.batch_size
            )
        except DataError as error:
            raise Refused(422, str(error)) from None
        start = time.perf_counter()
        label_map, encoded = segmentation.label_map, None
        table = segmentation.class_table
        if encoding == "labels":
            encoded = encode_label_map(label_map, table)
        elif encoding == "overlay":
            encoded = encode_overlay(segmentation.image, label_map, table)
        elif encoding == "confidence":
            assert segmentation.confidence is not None
            encoded = encode_confidence(segmentation.confidence)
        timings_ms |= {
            "postprocess": segmentation.timings.postprocess_ms,
            "encode": _since(start),
        }
        classes = self.table.num_classes
        pixels = np.bincount(label_map.ravel(), minlength=classes)[:classes].tolist()
        return Answer(segmentation, pixels, encoded, timings_ms)

    async def help(self, work: Callable[[], T]) -> T:
        """The result of the work, done in a thread beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._helpers, work)

    def _count(self, answer: Answer) -> None:
        found = answer.segmentation
        self._paces_s.append(answer.timings_ms["network"] / 1000 / found.batch_size)
        self.metrics.observe(answer.timings_ms, found.batch_size, found.label_map.size)

    def _seconds_until_free(self, images: int) -> int:
        """At the pace of the last answers; at least a second, at most the deadline."""
        pace_s = float(np.median(self._paces_s)) if self._paces_s else 1.0
        return max(1, math.ceil(min(pace_s * images, self.settings.deadline)))

    def class_shares(self, answer: Answer) -> list[dict[str, Any]]:
        """Pixels and share per class, in the order of their ids."""
        size = answer.segmentation.label_map.size
        return [
            described | {"pixels": pixels, "share": pixels / size}
            for described, pixels in zip(self.classes(), answer.class_pixels, strict=True)
        ]

    def confidence_shares(self, answer: Answer) -> dict[str, Any] | None:
        """Mean confidence and the shares of pixels below `DOUBTFUL`; None without confidence."""
        confidence = answer.segmentation.confidence
        if confidence is None:
            return None
        below = {f"{p:g}": float((confidence < p).mean()) for p in DOUBTFUL}
        return {"mean": float(confidence.mean(dtype=np.float64)), "shares_below": below}

    def unknown(self, answer: Answer) -> dict[str, Any] | None:
        """Value, pixels and share of the unknown pixels; None where none were marked."""
        found, value = answer.segmentation, answer.segmentation.class_table.unknown
        if value is None:
            return None
        pixels = found.unknown_pixels
        return {"id": value, "pixels": pixels, "share": pixels / found.label_map.size}

    def classes(self) -> list[dict[str, Any]]:
        """Id, name and colour per class."""
        return class_entries(self.table)


def _since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
