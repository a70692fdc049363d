"""A video of overlays, predicted from the frames of a video or camera, in order.

Every frame of a file has one in the result: for a frame that cannot be decoded the overlay before
it is written again, for frames that a camera dropped the next overlay. The result has a constant
rate: where the next frame of a file comes late, the overlay before it is written again. So the
result lasts as long as the recording.

A frame that equals the one before it, byte by byte (a recorded screen, a still camera), is not
predicted: it gets the same overlay.

Frames are decoded by one thread (`images.video`) and encoded by another, both beside the
pipeline's own.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.files import atomic_path
from paddleseg_ext.common.ordered import ordered_map, worker_threads
from paddleseg_ext.images.video import FRAMES_AHEAD, Frame, Source
from paddleseg_ext.inference.flow import TemporalConsistency
from paddleseg_ext.inference.outputs import OVERLAYS
from paddleseg_ext.inference.pipeline import Prediction, SampleLike, StreamOptions
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.video_files import (
    AUTO,
    CODECS,
    FrameFiles,
    check_written,
    choose_codec,
    open_writer,
)

MOST_LATE = 1.5  # slots of the constant rate; containers round times, by less than one slot
MOST_GAP_SECONDS = 60.0  # between two frames; above it the file's clock has jumped
FPS_WINDOW = 30  # frames that the shown rate is taken over
TEXT_SCALE = 1 / 400  # of the frame's height


@dataclass(frozen=True)
class VideoSettings:
    """How a video is run and where its results go.

    Attributes:
        batch_size: frames that are run at a time.
        num_workers: as for `predict_samples`.
        streams: batches that the engine runs at a time.
        show_fps: draw into the video how many frames a second are done here and now.
        video_codec: one of `CODECS`, or `AUTO`.
        save_label_maps: also write `label_maps/VIDEO/NUMBER.png`, a file per predicted frame.
        consistency: also count the pixels that keep their class along optical flow.
        most_frames: the run ends after so many predicted frames; None goes to the end.
        what_ran: bundle and the like, for the JSON.
    """

    save_dir: Path
    batch_size: int = 1
    num_workers: int | None = None
    streams: int = 1
    show_fps: bool = False
    video_codec: str = AUTO
    save_label_maps: bool = False
    consistency: bool = False
    most_frames: int | None = None
    print_detail: bool = True
    what_ran: dict[str, Any] = field(default_factory=dict)


@dataclass
class VideoOutcome:
    """The counts of a predicted video.

    Attributes:
        num_predicted: frames that have an overlay.
        num_equal: of these, frames that equal the one before and got its overlay.
        num_written: frames of the result, with those in place of dropped or undecodable ones and
            the repeated ones.
        num_repeated: overlays written again because the next frame of a file came late.
        num_jumps: gaps between frames above `MOST_GAP_SECONDS`, which were not filled.
        codec: of the result, one of `CODECS`.
        num_dropped: frames that a camera gave while the network was busy; 0 for files.
        num_failed: frames that could not be predicted, which are in the result as they were, and
            those that could not be decoded, where the one before them is.
        first_error: of the failed ones.
        num_resized: frames of another size than the first, whose overlays were resized to it.
        first_resized: the number of the first of these.
        seconds: from the first frame to the last.
        consistency: share of the pixels that optical flow finds again in the next frame which keep
            their class; None where it was not asked for.
        compared_pixels: share of all pixels that this is of.
        no_consistency: why there is none where it was asked for.
    """

    num_predicted: int = 0
    num_equal: int = 0
    num_written: int = 0
    num_repeated: int = 0
    num_jumps: int = 0
    codec: str = ""
    num_dropped: int = 0
    num_failed: int = 0
    first_error: str | None = None
    num_resized: int = 0
    first_resized: int | None = None
    seconds: float = 0.0
    consistency: float | None = None
    compared_pixels: float | None = None
    no_consistency: str = ""


def result_path(source: Source, save_dir: Path, codec: str) -> Path:
    """Where the overlay video of a codec goes."""
    return save_dir / OVERLAYS / f"{source.path.stem}{CODECS[codec]}"


def check_video_stays(source: Source, save_dir: Path) -> None:
    """Refuse a folder where the overlays would replace the video itself.

    Raises:
        UsageError: they would.
    """
    for codec in CODECS:
        path = result_path(source, save_dir, codec)
        if path.exists() and source.path.exists() and path.samefile(source.path):
            raise UsageError(f"--save_dir: {path} is the video itself; give another folder")


def predict_video(
    predictor: Predictor,
    source: Source,
    frames: Iterable[Frame],
    settings: VideoSettings,
    track: Callable[[Iterable[Frame]], Iterable[Frame]] = iter,
) -> VideoOutcome:
    """Write the overlays of some frames to `result_path`, whole or not at all.

    A frame that cannot be predicted is written as it was, and counted. A predictor that is asked
    for confidence has it written as `confidence/VIDEO/NUMBER.png`, a file per predicted frame.

    Args:
        predictor: its class table gives the colours.
        source: where the frames come from; the result has its frame rate.
        frames: of `images.video.read_frames` or `CameraFrames`.
        settings: where the result goes, and how the frames are run.
        track: shows progress over the frames that are done.

    Raises:
        DataError: no frame came, or the result cannot be written.
        UsageError: the result would replace the video itself.
    """
    check_video_stays(source, settings.save_dir)
    codec = choose_codec(source, settings.video_codec)
    path = result_path(source, settings.save_dir, codec)
    outcome = VideoOutcome(codec=codec)
    consistency = TemporalConsistency() if settings.consistency else None
    files = FrameFiles(settings.save_dir, source.path.stem, settings.save_label_maps)
    repeats = _Repeats()
    pen = _Pen(source, outcome, settings.show_fps, repeats, files, consistency)
    stream = StreamOptions(
        settings.batch_size,
        settings.num_workers,
        settings.streams,
        finish=partial(_draw_overlay, files=files),
        read=_pixels_rgb,
    )
    predictions = predictor.stream(repeats.left_out_of(frames), stream)
    with (
        atomic_path(path) as temporary,
        open_writer(temporary, codec, source) as pen.writer,
    ):
        with (
            # However this ends, no thread of the pipeline outlives it.
            closing(cast(Generator[Prediction, None, None], predictions)),
            worker_threads(1) as encoder,
            closing(ordered_map(pen.write, predictions, encoder, FRAMES_AHEAD)) as written,
        ):
            for _ in track(chain(chain.from_iterable(written), pen.write_repeats())):
                pass
        pen.writer.release()
        if not outcome.num_written:
            raise DataError(f"{source.path}: not one frame of it can be decoded")
        check_written(temporary, path, outcome.num_written)
    files.delete_older()
    if consistency is not None:
        outcome.consistency = consistency.share
        outcome.compared_pixels = consistency.compared_share
        outcome.no_consistency = consistency.why_none()
    return outcome


def _pixels_rgb(sample: SampleLike) -> NDArray[np.uint8]:
    assert isinstance(sample, Frame)
    return cv2.cvtColor(sample.pixels, cv2.COLOR_BGR2RGB)


def _draw_overlay(prediction: Prediction, files: FrameFiles) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR, as OpenCV encodes; the frame's own files are written."""
    assert prediction.segmentation is not None and isinstance(prediction.sample, Frame)
    files.write(prediction.segmentation, prediction.sample.number)
    return cv2.cvtColor(prediction.segmentation.overlay(), cv2.COLOR_RGB2BGR)


class _Repeats:
    """Frames that equal the one before, kept without their pixels."""

    def __init__(self) -> None:
        self._of: dict[int, list[Frame]] = {}

    def left_out_of(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The other frames."""
        first: Frame | None = None
        for frame in frames:
            if first is not None and np.array_equal(first.pixels, frame.pixels):
                self._of[first.number].append(replace(frame, pixels=first.pixels))
                continue
            self._of[frame.number] = []
            first = frame
            yield frame

    def take(self, number: int) -> list[Frame]:
        """The frames that followed frame `number` and equal it; all of them, once another came."""
        return self._of.pop(number, [])


@dataclass
class _Pen:
    """Writes predictions in their order; used by one thread."""

    source: Source
    outcome: VideoOutcome
    show_fps: bool
    repeats: _Repeats
    files: FrameFiles
    consistency: TemporalConsistency | None = None
    writer: Any = None
    last: Prediction | None = None
    last_number: int = -1
    last_picture: NDArray[np.uint8] | None = None
    zero: float | None = None  # time of the result's first slot, in the file's seconds
    last_seconds: float = 0.0
    ends: deque[float] = field(default_factory=lambda: deque(maxlen=FPS_WINDOW + 1))
    started: float = field(default_factory=time.perf_counter)

    def write(self, prediction: Prediction) -> list[Frame]:
        """Write the frames that equal the last one, then one prediction; returns these frames."""
        frame = prediction.sample
        assert isinstance(frame, Frame)
        repeated = list(self.write_repeats())
        self.last = prediction
        if self.consistency is not None and (found := prediction.segmentation) is not None:
            self.consistency.add(found.image, found.label_map)
        self._write(prediction, frame)
        return [*repeated, frame]

    def write_repeats(self) -> Iterator[Frame]:
        """Write the frames that equal the last predicted one, one by one."""
        if self.last is None:
            return
        assert isinstance(self.last.sample, Frame)
        first = self.last.sample.number
        for frame in self.repeats.take(first):
            self.outcome.num_equal += self.last.error is None
            self._write(self.last, frame)
            if self.last.segmentation is not None:
                if self.consistency is not None:
                    self.consistency.repeat()
                self.files.repeat(self.last.segmentation, first, frame.number)
            yield frame

    def _write(self, prediction: Prediction, frame: Frame) -> None:
        """Write one frame's picture, and before it one for each frame that is missing.

        A frame that a camera dropped is replaced by this one, one that a file has lost by the last.
        """
        outcome = self.outcome
        between = frame.number - self.last_number - 1
        if self.source.is_camera:
            outcome.num_dropped += between
        elif between:
            outcome.num_failed += between
            first = f"frame {self.last_number + 1}: it cannot be decoded"
            outcome.first_error = outcome.first_error or first
        picture = prediction.finished
        if prediction.error is None:
            outcome.num_predicted += 1
        else:
            outcome.num_failed += 1
            outcome.first_error = outcome.first_error or f"{frame.name}: {prediction.error}"
            picture = frame.pixels
        picture = self._fitted(picture, frame)
        now = time.perf_counter()
        self.ends.append(now)
        if self.show_fps and len(self.ends) > 1:
            picture = picture.copy()  # a frame that equals this one gets a text of its own
            rate = (len(self.ends) - 1) / (self.ends[-1] - self.ends[0])
            _draw_text(picture, f"{rate:.1f} fps")
        before = picture if self.source.is_camera else self.last_picture
        late = self._slots_late(frame, between)
        outcome.num_repeated += late
        for _ in range(between + late):
            self.writer.write(picture if before is None else before)
        self.writer.write(picture)
        outcome.num_written += between + late + 1
        outcome.seconds = now - self.started
        self.last_number, self.last_picture = frame.number, picture

    def _slots_late(self, frame: Frame, between: int) -> int:
        """Slots of the constant rate to fill before a frame of a file, so that it is on time."""
        if self.source.is_camera or frame.seconds is None:
            return 0
        rate = self.source.frames_per_second
        position = self.outcome.num_written + between
        on_time = frame.seconds - position / rate
        if self.zero is None:
            self.zero = on_time
        elif abs(frame.seconds - self.last_seconds) > MOST_GAP_SECONDS:
            self.outcome.num_jumps += 1
            self.zero = on_time
        self.last_seconds = frame.seconds
        late = (on_time - self.zero) * rate
        return round(late) if late > MOST_LATE else 0

    def _fitted(self, picture: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
        """The picture at the source's size: OpenCV's writer drops those of another."""
        height, width = self.source.size_hw
        if picture.shape[:2] == (height, width):
            return picture
        self.outcome.num_resized += 1
        if self.outcome.first_resized is None:
            self.outcome.first_resized = frame.number
        return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _draw_text(picture: NDArray[np.uint8], text: str) -> None:
    """White on black, in the upper left corner, at 1/16 of the height."""
    height = picture.shape[0]
    thickness = max(1, height // 300)
    origin = (height // 32, height // 10)
    for color, width in (((0, 0, 0), 3 * thickness), ((255, 255, 255), thickness)):
        cv2.putText(
            picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, height * TEXT_SCALE, color, width
        )
