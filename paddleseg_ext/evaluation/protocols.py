"""A predictor that runs its network by a published protocol (`scoring.protocols`).

At any moment it holds at most two tensors of scores at full size: the sum, and the one added.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.images import functional
from paddleseg_ext.inference.engines.base import RunTimes
from paddleseg_ext.inference.postprocess import Postprocess, softmax
from paddleseg_ext.inference.predictor import NetworkRun, Predictor
from paddleseg_ext.inference.preprocess import Geometry, Preprocess, SizeHW
from paddleseg_ext.scoring.protocols import (
    COINCHEUNG,
    DEFAULT_PROTOCOL,
    Protocol,
    Windows,
    window_starts,
)

Scores = NDArray[np.float32]  # (N, C, h, w)
Images = NDArray[np.float32]  # (N, 3, h, w)


def by_protocol(predictor: Predictor, protocol: Protocol) -> Predictor:
    """The predictor itself for a plain protocol, else one that runs it as the protocol says.

    Raises:
        UsageError: the protocol starts from the full-size image and preprocessing resizes, or the
            predictor is asked for confidence, which only the plain protocol has.
    """
    if protocol.is_plain:
        return predictor
    return ProtocolPredictor(predictor, protocol).with_outputs(
        predictor.outputs, predictor.unknown_below
    )


class ProtocolPredictor(Predictor):
    """A predictor whose `run` follows a protocol: scales, mirrored images, windows."""

    needs_one_geometry = True
    gives_confidence = False

    def __init__(self, inner: Predictor, protocol: Protocol):
        """
        Args:
            inner: its engine, preprocessing and classes are used.
            protocol: how a batch is run.

        Raises:
            UsageError: the protocol starts from the full-size image and preprocessing changes it.
        """
        check_protocol(protocol, inner.preprocess)
        super().__init__(
            inner.engine,
            Preprocess([], orientation=inner.preprocess.orientation)
            if protocol.bytes_first
            else inner.preprocess,
            inner.postprocess,
            inner.class_table,
            inner.spec,
            inner.bundle,
        )
        self.protocol = protocol
        self.network_preprocess = inner.preprocess

    def with_outputs(
        self, outputs: Collection[str] = (), unknown_below: float | None = None
    ) -> Predictor:
        """See `Predictor.with_outputs`.

        Raises:
            UsageError: anything beside the label map: what `run` returns may be sums of
                probabilities.
        """
        if outputs or unknown_below is not None:
            raise UsageError(
                f"protocol {self.protocol.name}: confidence is the softmax of one run of the whole "
                f"image; take --protocol {DEFAULT_PROTOCOL}"
            )
        return super().with_outputs()

    def run(self, batch: Images, geometries: Sequence[Geometry]) -> NetworkRun:
        """Scores of images of one shape and geometry; see `Predictor.run`.

        The geometries of the result lead from the scores' size back to the original one.
        """
        started = time.perf_counter()
        with self._free_streams:
            total, geometry = self._scores(batch, geometries[0])
        times = RunTimes(0.0, time.perf_counter() - started, synchronised=True)
        return NetworkRun(total, [geometry] * len(batch), times)

    def _scores(self, batch: Images, geometry: Geometry) -> tuple[Scores, Geometry]:
        protocol = self.protocol
        target_hw = geometry.network_hw
        if protocol.source == COINCHEUNG:
            # Whatever side the images begin with, scores are compared at the label's size.
            target_hw = geometry.original_hw
            geometry = Geometry(target_hw, target_hw)
        if protocol.label_stride > 1:
            target_hw = protocol.label_hw(target_hw)
            geometry = Geometry(target_hw, target_hw)
        if protocol.merge in ("logits", "softmax"):
            total = self._sum_of_logits(batch, geometry, target_hw)
        else:
            total = self._sum_of_windows(batch, target_hw)
        if protocol.at_label_size:
            geometry = Geometry(geometry.original_hw, geometry.original_hw)
        return total, geometry

    def _sum_of_logits(self, batch: Images, geometry: Geometry, target_hw: SizeHW) -> Scores:
        """Logits (or their softmax) of every look, resized first and summed then."""
        protocol = self.protocol
        alone = len(protocol.scales) == 1 and not protocol.flip
        total = None
        for scale in protocol.scales:
            scaled = self._resize(batch, protocol.scaled_hw(_size_hw(batch), scale))
            for mirrored in (False, True) if protocol.flip else (False,):
                logits = self._logits(_mirror(scaled) if mirrored else scaled)
                logits = self._mirrored_back(logits) if mirrored else logits
                if protocol.at_label_size:
                    # Back to the size of the preprocessed image, then as any output.
                    logits = self._resize(logits, geometry.network_hw)
                    logits = np.stack([Postprocess().full_logits(one, geometry) for one in logits])
                else:
                    logits = self._resize(logits, target_hw)
                if alone:
                    return logits  # softmax keeps the order
                if protocol.merge == "softmax":
                    logits = softmax(logits, overwrite=True)
                total = _add(total, logits)
                del logits  # not beside the next look's
        assert total is not None
        return total

    def _logits(self, images: Images) -> Scores:
        """(N, C, h, w) of the whole images or averaged over windows."""
        if self.protocol.windows is None:
            return self.engine.run(np.ascontiguousarray(images))

        def score(crops: Images) -> Scores:
            return self._resize(self.engine.run(crops), _size_hw(crops))

        return _slide(images, self.protocol.windows, score)

    def _sum_of_windows(self, batch: Images, target_hw: SizeHW) -> Scores:
        """Scores of every crop, summed over crops, resized and summed over scales."""
        total = None
        for scale in self.protocol.scales:
            # One expression: scores of the last scale must not live on beside the next one's.
            total = self._add_resized(total, self._scale_scores(batch, scale), target_hw)
        assert total is not None
        return total

    def _add_resized(self, total: Scores | None, scores: Scores, size_hw: SizeHW) -> Scores:
        if total is None:
            total = np.zeros((*scores.shape[:2], *size_hw), np.float32)
        for image, image_total in zip(scores, total, strict=True):
            for plane, plane_total in zip(image, image_total, strict=True):
                plane_total += self._resize_plane(plane, size_hw)
        return total

    def _scale_scores(self, batch: Images, scale: float) -> Scores:
        if self.protocol.bytes_first:
            return self._bytes_scale_scores(batch, scale)
        scaled = self._resize(batch, self.protocol.scaled_hw(_size_hw(batch), scale))
        if self.protocol.windows is None:
            return self._crop_score(scaled)
        return _slide(scaled, self.protocol.windows, self._crop_score)

    def _bytes_scale_scores(self, batch: Images, scale: float) -> Scores:
        """As TorchSeg and TF2: pixels are resized and padded as bytes, and normalised then."""
        score = self._crop_score
        if round(min(_size_hw(batch)) * scale) < 1:
            height, width = _size_hw(batch)
            raise DataError(
                f"protocol {self.protocol.name}: an image of {width}x{height} (width x height) "
                f"leaves nothing at scale {scale:g}"
            )
        images = (np.ascontiguousarray(image.transpose(1, 2, 0)) for image in batch)
        pixels = [scaled_bytes(image.astype(np.uint8), scale) for image in images]
        raw = np.stack(pixels).transpose(0, 3, 1, 2)  # (N, 3, h, w) uint8
        windows = self.protocol.windows
        if windows is None:
            return score(self._normalized(raw))
        if max(raw.shape[2:]) <= max(windows.crop_wh):
            return _slide(self._normalized(raw), windows, score)
        return _slide(raw, windows, lambda crops: score(self._normalized(crops)))

    def _normalized(self, raw: NDArray[np.uint8]) -> Images:
        return np.stack([self.network_preprocess(image.transpose(1, 2, 0))[0] for image in raw])

    def _crop_score(self, crops: Images) -> Scores:
        """(N, C, h, w) that one crop adds."""
        scores = self._probabilities(crops)
        if not self.protocol.flip:
            return scores
        other = self._mirrored_back(self._probabilities(_mirror(crops)))
        if self.protocol.merge == "window_product":
            scores *= other
            return scores
        scores += other
        return np.exp(scores, out=scores) if self.protocol.merge == "window_exp" else scores

    def _probabilities(self, crops: Images) -> Scores:
        """(N, C, h, w) softmax at the size of the crops."""
        logits = self._resize(self.engine.run(np.ascontiguousarray(crops)), _size_hw(crops))
        return softmax(logits, overwrite=True)

    def _mirrored_back(self, scores: Scores) -> Scores:
        """Scores of mirrored images for the images: their pairs of left and right classes, too."""
        pairs = self.class_table.left_right
        if pairs and not scores.flags.writeable:
            scores = scores.copy()
        for one, other in pairs:
            kept = scores[:, one].copy()
            scores[:, one], scores[:, other] = scores[:, other], kept
        return _mirror(scores)

    def _resize(self, batch: NDArray[np.float32], size_hw: SizeHW) -> NDArray[np.float32]:
        if _size_hw(batch) == size_hw:
            return batch
        resized = np.empty((*batch.shape[:2], *size_hw), np.float32)
        for image, target in zip(batch, resized, strict=True):
            for plane, plane_target in zip(image, target, strict=True):
                plane_target[:] = self._resize_plane(plane, size_hw)
        return resized

    def _resize_plane(self, plane: NDArray[np.float32], size_hw: SizeHW) -> NDArray[np.float32]:
        """(h, w) -> (H, W); a plane at a time, since interpolation takes several copies."""
        planes = np.ascontiguousarray(plane)[None]
        return functional.resize_logits(planes, size_hw[::-1], self.protocol.align_corners)[0]


def check_protocol(protocol: Protocol, preprocess: Preprocess) -> None:
    """Refuse a protocol that starts from the full-size image where preprocessing changes it.

    Raises:
        UsageError: it names the transforms to take out.
    """
    may_resize = protocol.source == COINCHEUNG and preprocess.keeps_ratio
    if protocol.needs_full_size and preprocess.changes_size and not may_resize:
        raise UsageError(
            f"protocol {protocol.name} starts from the image at its own size: take what "
            "resizes or pads out of val_dataset.transforms (--opts val_dataset.transforms=...)"
        )


def scaled_bytes(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """(H, W, 3) pixels at a scale, as the protocols that are `bytes_first` resize them."""
    scaled = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return scaled.astype(np.uint8, copy=False)


def _slide(images: NDArray, windows: Windows, score: Callable[[Any], Scores]) -> Scores:
    """Sum (or average) the scores of every crop at its place, (N, C, h, w)."""
    height, width = _size_hw(images)
    crop_w, crop_h = windows.crop_wh
    top = left = 0
    if windows.pad:
        below, right = max(crop_h - height, 0), max(crop_w - width, 0)
        top, left = below // 2, right // 2
        margins = ((0, 0), (0, 0), (top, below - top), (left, right - left))
        images = np.pad(images, margins)
    total: Scores | None = None
    seen = np.zeros(_size_hw(images), np.float32)
    for rows, columns in _windows(_size_hw(images), windows):
        scores = score(np.ascontiguousarray(images[:, :, rows, columns]))
        if total is None:
            total = np.zeros((*scores.shape[:2], *_size_hw(images)), np.float32)
        total[:, :, rows, columns] += scores
        seen[rows, columns] += 1
    assert total is not None
    if windows.average:
        total /= seen
    return total[:, :, top : top + height, left : left + width]


def _windows(size_hw: SizeHW, windows: Windows) -> Iterator[tuple[slice, slice]]:
    crop_w, crop_h = windows.crop_wh
    step_x, step_y = windows.stride_wh
    for y in window_starts(size_hw[0], crop_h, step_y):
        for x in window_starts(size_hw[1], crop_w, step_x):
            yield slice(y, min(y + crop_h, size_hw[0])), slice(x, min(x + crop_w, size_hw[1]))


def _add(total: Scores | None, part: Scores) -> Scores:
    if total is None:
        return part if part.flags.owndata and part.flags.writeable else part.copy()
    total += part
    return total


def _mirror(batch: NDArray) -> NDArray:
    return batch[..., ::-1]


def _size_hw(batch: NDArray) -> SizeHW:
    return batch.shape[2], batch.shape[3]
