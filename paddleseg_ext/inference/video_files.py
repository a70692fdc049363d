"""The files of a predicted video: overlays in a codec that browsers play, and files per frame."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.common.files import write_bytes
from paddleseg_ext.images.video import Source, count_frames, quiet_opencv
from paddleseg_ext.inference.outputs import (
    CONFIDENCE,
    LABEL_MAPS,
    encode_confidence,
    encode_label_map,
)
from paddleseg_ext.inference.predictor import Segmentation

# Codec -> suffix of its files: H.264, VP9 and VP8, which browsers play, and MPEG-4 part 2, which
# they do not. OpenCV's wheels lack an encoder of the first.
CODECS: Mapping[str, str] = {"avc1": ".mp4", "vp09": ".webm", "vp08": ".webm", "mp4v": ".mp4"}
PLAYED_BY_BROWSERS = ("avc1", "vp09", "vp08")
AUTO = "auto"  # the first of these that opens


def choose_codec(source: Source, wanted: str) -> str:
    """The codec of `CODECS` that OpenCV can write here.

    Args:
        source: its size and frame rate are the result's.
        wanted: a codec, or `AUTO`.

    Raises:
        DataError: none can be written.
    """
    height, width = source.size_hw
    with tempfile.TemporaryDirectory(prefix="codec-") as folder:
        for codec in PLAYED_BY_BROWSERS if wanted == AUTO else (wanted,):
            writer = _open(Path(folder) / f"probe{CODECS[codec]}", codec, source)
            opened = writer.isOpened()
            writer.release()
            if opened:
                return codec
    which = f" as {wanted}; leave --video_codec out, or take mp4v"
    if wanted == AUTO:
        which = " that browsers play; try --video_codec mp4v"
    raise DataError(f"{source.path}: OpenCV cannot write a video of {width}x{height}{which}")


@contextmanager
def open_writer(path: Path, codec: str, source: Source) -> Iterator[Any]:
    """An open writer of OpenCV's.

    Raises:
        DataError: it does not open.
    """
    writer = _open(path, codec, source)
    try:
        if not writer.isOpened():
            raise DataError(f"{path.parent}: OpenCV cannot write a video there")
        yield writer
    finally:
        writer.release()


def _open(path: Path, codec: str, source: Source) -> Any:
    height, width = source.size_hw
    # FFmpeg writes lines of its own for an encoder that does not open.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with quiet_opencv(), _quiet_stderr():
        return cv2.VideoWriter(
            str(path), cv2.VideoWriter.fourcc(*codec), source.frames_per_second, (width, height)
        )


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drop what C code prints: OpenCV's line of a container that has no tag for its codecs."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def check_written(temporary: Path, path: Path, num_frames: int) -> None:
    """OpenCV's writer reports no errors; a full disk shows in the file.

    Raises:
        DataError: fewer frames are in the file than were written.
    """
    found = count_frames(temporary)
    if found != num_frames:
        raise DataError(
            f"{path}: {num_frames} frames were written and {found} are there; is the disk full?"
        )


@dataclass(frozen=True)
class FrameFiles:
    """Files per predicted frame: `confidence/VIDEO/000000.png`, `label_maps/VIDEO/000000.png`.

    Attributes:
        save_dir: their folder.
        video: the video's name, without suffix.
        with_label_maps: whether they are written; the confidence is where there is one.
    """

    save_dir: Path
    video: str
    with_label_maps: bool = False
    _written: set[Path] = field(default_factory=set)

    def write(self, segmentation: Segmentation, number: int) -> None:
        """Write the files of frame `number`."""
        if segmentation.confidence is not None:
            content = encode_confidence(segmentation.confidence)
            write_bytes(self._path(CONFIDENCE, number), content)
        if self.with_label_maps:
            content = encode_label_map(segmentation.label_map, segmentation.class_table)
            write_bytes(self._path(LABEL_MAPS, number), content)

    def repeat(self, segmentation: Segmentation, first: int, number: int) -> None:
        """Write the files of frame `number`, which equals frame `first`."""
        kinds = [CONFIDENCE] if segmentation.confidence is not None else []
        for kind in [*kinds, *([LABEL_MAPS] if self.with_label_maps else [])]:
            write_bytes(self._path(kind, number), self._path(kind, first).read_bytes())

    def delete_older(self) -> None:
        """Delete frames of an earlier run, of another length or step, that this one left there."""
        for kind in (CONFIDENCE, LABEL_MAPS):
            for file in (self.save_dir / kind / self.video).glob("[0-9]*.png"):
                if file.stem.isdecimal() and file not in self._written:
                    file.unlink()

    def _path(self, kind: str, number: int) -> Path:
        path = self.save_dir / kind / self.video / f"{number:06}.png"
        self._written.add(path)
        return path
