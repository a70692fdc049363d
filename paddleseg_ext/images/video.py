"""Frames of video files and cameras, read by a thread beside the caller's.

A file is read as fast as its frames are used, and none is left out. A camera does not wait: frames
that arrive while the caller is busy are dropped, and their numbers show how many.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from math import isfinite
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.log import log
from paddleseg_ext.common.ordered import ordered_map, worker_threads

FRAMES_AHEAD = 4  # decoded before they are used; bounds the memory
MOST_FRAMES_PER_SECOND = 1000.0
CAMERA_FRAMES_PER_SECOND = 25.0  # where the driver reports no rate
# These containers store the number of their frames. For others OpenCV computes it from the duration
# of the file, which the sound may decide.
COUNTING_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi")
MOST_FAILURES = 1000  # in a row, of a file without a count: then it has ended
SILENT = 0  # of OpenCV's log levels


@dataclass(frozen=True)
class Frame:
    """One frame; a sample without a label.

    Attributes:
        image: the video's file, or the camera's name; for messages.
        number: from 0, counting frames that were dropped or could not be decoded, too.
        pixels: (H, W, 3) uint8 BGR, as OpenCV decodes.
        seconds: when a file shows it; None where that is unknown.
    """

    image: Path
    number: int
    pixels: NDArray[np.uint8]
    label: None = None
    seconds: float | None = None

    @property
    def name(self) -> str:
        """The frame's number."""
        return f"frame {self.number}"


@dataclass(frozen=True)
class Source:
    """An opened video or camera.

    Attributes:
        num_frames: of a file, as its container reports; None for a camera.
    """

    path: Path
    capture: Any
    frames_per_second: float
    size_hw: tuple[int, int]
    num_frames: int | None

    @property
    def is_camera(self) -> bool:
        """Whether frames come at their own pace."""
        return self.num_frames is None

    @property
    def is_counted(self) -> bool:
        """Whether `num_frames` is stored in the file; else it is a guess from the duration."""
        return self.path.suffix.lower() in COUNTING_SUFFIXES


def open_video(path: str | Path) -> Source:
    """Open a video file.

    Raises:
        UsageError: the file does not exist, or OpenCV cannot decode it.
    """
    path = require_file(path, "--video")
    # FFmpeg writes lines of its own to standard error; the messages below are enough.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with quiet_opencv():
        source = _source(cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), path)
    if source is None:
        raise UsageError(f"--video: '{path}' is no video that OpenCV can read")
    rate = source.frames_per_second
    if not 0.0 < rate <= MOST_FRAMES_PER_SECOND:
        source.capture.release()
        raise UsageError(
            f"--video: '{path}': a frame rate above 0 and up to {MOST_FRAMES_PER_SECOND:g} is "
            f"expected, the file says {rate}; convert it first"
        )
    return source


def open_camera(index: int) -> Source:
    """Open the camera with this number.

    Raises:
        UsageError: there is none.
    """
    path = Path(f"camera{index}")
    with quiet_opencv():
        capture = cv2.VideoCapture(index)
    source = _source(capture, path, is_camera=True)
    if source is None:
        raise UsageError(f"--camera {index}: OpenCV finds no such camera; the first one is 0")
    if not 0.0 < source.frames_per_second <= MOST_FRAMES_PER_SECOND:
        rate = CAMERA_FRAMES_PER_SECOND
        log(f"{path} reports no frame rate; the video is written with {rate:g} frames a second")
        return Source(path, source.capture, rate, source.size_hw, None)
    return source


def count_frames(path: Path) -> int:
    """The number of frames that a video file's container reports; 0 where it cannot be opened."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    num_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    return num_frames


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silence the line that OpenCV writes for what it cannot open: a file, camera or encoder."""
    levels = cv2 if hasattr(cv2, "getLogLevel") else cv2.utils.logging  # there since OpenCV 4.14
    before = levels.getLogLevel()
    levels.setLogLevel(SILENT)
    try:
        yield
    finally:
        levels.setLogLevel(before)


def _source(capture: Any, path: Path, is_camera: bool = False) -> Source | None:
    height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) if capture.isOpened() else 0
    width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)) if height else 0
    if not (height and width):
        capture.release()
        return None
    num_frames = None if is_camera else max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    return Source(path, capture, capture.get(cv2.CAP_PROP_FPS), (height, width), num_frames)


def read_frames(source: Source) -> Generator[Frame, None, None]:
    """Yields the frames of a file that can be decoded, each once, decoded ahead by a thread.

    After a frame that cannot be decoded OpenCV continues with the next. It reports the end in the
    same way, so frames beyond the container's count are read up to the first failure only.
    """

    def read(number: int) -> Frame | None:
        decoded, pixels = source.capture.read()
        if not (decoded and pixels is not None and pixels.size):
            return None
        seconds = source.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
        return Frame(source.path, number, pixels, seconds=seconds if isfinite(seconds) else None)

    with (
        worker_threads(1) as reader,
        closing(ordered_map(read, count(), reader, FRAMES_AHEAD)) as frames,
    ):
        failures = 0
        for number, frame in enumerate(frames):
            failures = 0 if frame is not None else failures + 1
            if frame is not None:
                yield frame
                continue
            gives_up = failures >= MOST_FAILURES and not source.is_counted
            if gives_up or number >= (source.num_frames or 0):
                return


class CameraFrames:
    """The frames of a camera: always the newest, those that came in between are dropped."""

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
        """End after the frame that waits; may be called from a signal handler."""
        self._ended = True

    def join(self) -> None:
        """Stop, and wait until the thread no longer reads from the camera."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        for number in count():
            decoded, pixels = self._source.capture.read()
            with self._changed:
                if decoded and pixels is not None and pixels.size and not self._ended:
                    self._newest = Frame(self._source.path, number, pixels)
                else:
                    self._ended = True
                self._changed.notify()
            if self._ended:
                return
