"""Videos and cameras: frames in, a video of overlays out, in order.

A file is read as fast as it is predicted, and every frame of it is in the result; where one cannot
be decoded, the overlay before it stands in its place. A camera does not wait: what comes while the
network is busy is dropped and counted, and the next overlay stands in its place. So the result
lasts as long as what was filmed.

Frames are decoded by one thread and encoded by another, both beside the pipeline's own.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Condition, Thread
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.files import atomic_path, require_file
from paddleseg_ext.common.log import log
from paddleseg_ext.inference.ordered import ordered_map, worker_threads
from paddleseg_ext.inference.outputs import OVERLAYS
from paddleseg_ext.inference.pipeline import Prediction, SampleLike, StreamOptions
from paddleseg_ext.inference.predictor import Predictor

CODEC = "mp4v"
SUFFIX = ".mp4"
FRAMES_AHEAD = 4  # decoded or waiting to be encoded; a bound of memory
MOST_FRAMES_PER_SECOND = 1000.0
CAMERA_FRAMES_PER_SECOND = 25.0  # where the driver does not say
# These store how many frames they hold. Elsewhere it is computed from the duration, and may be off
# by some.
COUNTING_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi")
COUNT_TOLERANCE = 2
SILENT = 0  # of OpenCV's log levels
FPS_WINDOW = 30  # frames that the shown rate is taken over
TEXT_SCALE = 1 / 400  # of the frame's height


@dataclass(frozen=True)
class Frame:
    """One frame on its way; a `SampleLike`.

    Attributes:
        image: the video's file, or the camera's name; for messages.
        number: from 0, counting what was dropped or could not be decoded, too.
        pixels: (H, W, 3) uint8 BGR, as OpenCV decodes.
    """

    image: Path
    number: int
    pixels: NDArray[np.uint8]
    label: None = None

    @property
    def name(self) -> str:
        """The frame's number."""
        return f"frame {self.number}"


@dataclass(frozen=True)
class Source:
    """An opened video or camera.

    Attributes:
        num_frames: of a file, as its container says; None for a camera.
    """

    path: Path
    capture: Any
    frames_per_second: float
    size_hw: tuple[int, int]
    num_frames: int | None

    @property
    def is_camera(self) -> bool:
        """Whether frames come by themselves."""
        return self.num_frames is None

    @property
    def count_tolerance(self) -> int:
        """Frames that may be fewer than `num_frames` though nothing is lost."""
        return 0 if self.path.suffix.lower() in COUNTING_SUFFIXES else COUNT_TOLERANCE


@dataclass(frozen=True)
class VideoSettings:
    """How a video is run and where its results go.

    Attributes:
        batch_size: frames that are run at a time.
        num_workers: as for `predict_samples`.
        streams: batches that the backend runs at a time.
        show_fps: draw into the video how many frames a second are done here and now.
        most_frames: the run ends after so many predicted frames; None goes to the end.
        what_ran: bundle and the like, for the JSON.
    """

    save_dir: Path
    batch_size: int = 1
    num_workers: int | None = None
    streams: int = 1
    show_fps: bool = False
    most_frames: int | None = None
    print_detail: bool = True
    what_ran: dict[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """What became of a video.

    Attributes:
        num_predicted: frames that have an overlay.
        num_written: frames of the result, with those that stand for dropped or undecodable ones.
        num_dropped: frames that a camera gave while the network was busy; 0 for files.
        num_failed: frames that could not be predicted, which are in the result as they were, and
            those that could not be decoded, where the one before them is.
        first_error: of the failed ones.
        seconds: from the first frame to the last.
    """

    num_predicted: int = 0
    num_written: int = 0
    num_dropped: int = 0
    num_failed: int = 0
    first_error: str | None = None
    seconds: float = 0.0


def open_video(path: str | Path) -> Source:
    """Open a video file.

    Raises:
        UsageError: no such file, or none that OpenCV can decode.
    """
    path = require_file(path, "--video")
    # FFmpeg writes its own lines to standard error; ours says what is to be known.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    source = _source(cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), path)
    if source is None:
        raise UsageError(f"--video: '{path}' is no video that OpenCV can read")
    rate = source.frames_per_second
    if not 0.0 < rate <= MOST_FRAMES_PER_SECOND:
        source.capture.release()
        raise UsageError(f"--video: '{path}' tells a frame rate of {rate}; convert it first")
    return source


def open_camera(index: int) -> Source:
    """Open the camera with this number.

    Raises:
        UsageError: there is none.
    """
    path = Path(f"camera{index}")
    with _quiet_opencv():
        capture = cv2.VideoCapture(index)
    source = _source(capture, path, is_camera=True)
    if source is None:
        raise UsageError(f"--camera {index}: OpenCV finds no such camera; the first one is 0")
    if not 0.0 < source.frames_per_second <= MOST_FRAMES_PER_SECOND:
        rate = CAMERA_FRAMES_PER_SECOND
        log(f"{path} tells no frame rate; the video is written with {rate:g} frames a second")
        return Source(path, source.capture, rate, source.size_hw, None)
    return source


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV writes a line for each way in which it cannot open a camera; ours says enough."""
    before = cv2.getLogLevel()
    cv2.setLogLevel(SILENT)
    try:
        yield
    finally:
        cv2.setLogLevel(before)


def _source(capture: Any, path: Path, is_camera: bool = False) -> Source | None:
    height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) if capture.isOpened() else 0
    width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)) if height else 0
    if not (height and width):
        capture.release()
        return None
    num_frames = None if is_camera else max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    return Source(path, capture, capture.get(cv2.CAP_PROP_FPS), (height, width), num_frames)


def read_frames(source: Source) -> Generator[Frame, None, None]:
    """The frames of a file that can be decoded, each once, decoded ahead by a thread.

    After one that cannot be decoded OpenCV goes on with the next. The end looks the same to it, so
    what lies behind the container's count is read up to the first failure only.
    """

    def read(number: int) -> Frame | None:
        read_one, pixels = source.capture.read()
        return Frame(source.path, number, pixels) if read_one else None

    with (
        worker_threads(1) as reader,
        closing(ordered_map(read, count(), reader, FRAMES_AHEAD)) as frames,
    ):
        for number, frame in enumerate(frames):
            if frame is not None:
                yield frame
            elif number >= (source.num_frames or 0):
                return


class CameraFrames:
    """The frames of a camera: always the newest, what came in between is dropped."""

    def __init__(self, source: Source):
        self._source = source
        self._changed = Condition()
        self._newest: Frame | None = None
        self._ended = False
        self._thread = Thread(target=self._watch, name="camera", daemon=True)

    def __iter__(self) -> Iterator[Frame]:
        self._thread.start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._ended)
                frame, self._newest = self._newest, None
            if frame is None:
                return
            yield frame

    def stop(self) -> None:
        """No more frames after the one that waits; may be called from a signal handler."""
        self._ended = True

    def join(self) -> None:
        """Stop, and wait for the thread to leave the camera."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        for number in count():
            read_one, pixels = self._source.capture.read()
            with self._changed:
                if read_one and not self._ended:
                    self._newest = Frame(self._source.path, number, pixels)
                else:
                    self._ended = True
                self._changed.notify()
            if self._ended:
                return


def result_path(source: Source, save_dir: Path) -> Path:
    """Where the overlay video goes.

    Raises:
        UsageError: that is the input itself.
    """
    path = save_dir / OVERLAYS / f"{source.path.stem}{SUFFIX}"
    if path.exists() and source.path.exists() and path.samefile(source.path):
        raise UsageError(f"--save_dir: {path} is the video itself; give another folder")
    return path


def predict_video(
    predictor: Predictor,
    source: Source,
    frames: Iterable[Frame],
    settings: VideoSettings,
    track: Callable[[Iterable[Frame]], Iterable[Frame]] = iter,
) -> Outcome:
    """Write the overlays of some frames to `result_path`, whole or not at all.

    A frame that cannot be predicted is written as it was, and counted.

    Args:
        predictor: its class table gives the colours.
        source: where the frames come from; the result has its frame rate.
        frames: of `read_frames` or `CameraFrames`.
        settings: where the result goes, and how the frames are run.
        track: shows progress over the frames that are done.

    Raises:
        DataError: no frame came, or the result cannot be written.
    """
    path = result_path(source, settings.save_dir)
    outcome = Outcome()
    pen = _Pen(source, outcome, settings.show_fps)
    stream = StreamOptions(
        settings.batch_size,
        settings.num_workers,
        settings.streams,
        finish=_draw_overlay,
        read=_pixels_rgb,
    )
    predictions = predictor.stream(frames, stream)
    with atomic_path(path) as temporary, _writer(temporary, source) as pen.writer:
        with (
            # However this ends, no thread of the pipeline outlives it.
            closing(cast(Generator[Prediction, None, None], predictions)),
            worker_threads(1) as encoder,
            closing(ordered_map(pen.write, predictions, encoder, FRAMES_AHEAD)) as written,
        ):
            for _ in track(written):
                pass
        pen.writer.release()
        if not outcome.num_written:
            raise DataError(f"{source.path}: not one frame of it can be decoded")
        _check(temporary, path, outcome.num_written)
    return outcome


def _pixels_rgb(sample: SampleLike) -> NDArray[np.uint8]:
    assert isinstance(sample, Frame)
    return cv2.cvtColor(sample.pixels, cv2.COLOR_BGR2RGB)


def _draw_overlay(prediction: Prediction) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR, as OpenCV encodes."""
    assert prediction.segmentation is not None
    return cv2.cvtColor(prediction.segmentation.overlay(), cv2.COLOR_RGB2BGR)


@contextmanager
def _writer(path: Path, source: Source) -> Iterator[Any]:
    height, width = source.size_hw
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*CODEC), source.frames_per_second, (width, height)
    )
    if not writer.isOpened():
        raise DataError(f"{path.parent}: OpenCV cannot write a video of {width}x{height} there")
    try:
        yield writer
    finally:
        writer.release()


def _check(temporary: Path, path: Path, num_frames: int) -> None:
    """OpenCV's writer tells no errors; a full disk shows in the file."""
    written = cv2.VideoCapture(str(temporary), cv2.CAP_FFMPEG)
    found = int(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written.isOpened() else 0
    written.release()
    if found != num_frames:
        raise DataError(
            f"{path}: {num_frames} frames were written and {found} are there; is the disk full?"
        )


@dataclass
class _Pen:
    """Writes predictions in their order; used by one thread."""

    source: Source
    outcome: Outcome
    show_fps: bool
    writer: Any = None
    last_number: int = -1
    last_picture: NDArray[np.uint8] | None = None
    ends: deque[float] = field(default_factory=lambda: deque(maxlen=FPS_WINDOW + 1))
    started: float = field(default_factory=time.perf_counter)

    def write(self, prediction: Prediction) -> Frame:
        """Write one; before it, what stands for the frames between the last one and it.

        For those that a camera dropped it is this one, for those that a file has lost the last one.
        """
        frame = prediction.sample
        assert isinstance(frame, Frame)
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
        now = time.perf_counter()
        self.ends.append(now)
        if self.show_fps and len(self.ends) > 1:
            rate = (len(self.ends) - 1) / (self.ends[-1] - self.ends[0])
            _draw_text(picture, f"{rate:.1f} fps")
        before = picture if self.source.is_camera else self.last_picture
        for shown in [picture if before is None else before] * between + [picture]:
            self.writer.write(shown)
        outcome.num_written += between + 1
        outcome.seconds = now - self.started
        self.last_number, self.last_picture = frame.number, picture
        return frame


def _draw_text(picture: NDArray[np.uint8], text: str) -> None:
    """White on black, in the upper left corner, at 1/16 of the height."""
    height = picture.shape[0]
    thickness = max(1, height // 300)
    origin = (height // 32, height // 10)
    for color, width in (((0, 0, 0), 3 * thickness), ((255, 255, 255), thickness)):
        cv2.putText(
            picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, height * TEXT_SCALE, color, width
        )
