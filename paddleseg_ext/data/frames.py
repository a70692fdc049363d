"""Frames of videos as images: what a labelling tool and training can read."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.common.files import require_writable
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import CheckedOptions, option
from paddleseg_ext.common.progress import track
from paddleseg_ext.images.functional import write_png
from paddleseg_ext.images.samples import Sample, write_sample_list
from paddleseg_ext.images.video import open_video, read_frames

LIST = "frames.list"


@dataclass(frozen=True)
class FrameOptions(CheckedOptions):
    """Which frames of a video are written."""

    every: int = option(10, "write each N-th frame, from the first on", at_least=1, metavar="N")


def write_frames(video: str | Path, target: str | Path, options: FrameOptions) -> int:
    """Write frames as `VIDEO_NNNNNN.png` (the number of the frame), and a list of them.

    Frames that an earlier run wrote are kept, so that an interrupted run goes on.

    Returns:
        The number of frames that are there.

    Raises:
        UsageError: no such video, or the folder cannot be written to.
        CheckFailed: frames could not be decoded; their numbers are named, the others are written.
    """
    folder, source = require_writable(target, "--save_dir"), open_video(video)
    stem = Path(video).stem
    samples, last = [], -1
    with closing(read_frames(source)) as frames:
        for frame in track(frames, f"frames of {stem}", total=source.num_frames or None):
            last = frame.number
            if frame.number % options.every == 0:
                path = folder / f"{stem}_{frame.number:06d}.png"
                if not path.is_file():
                    write_png(path, frame.pixels[:, :, ::-1])
                samples.append(Sample(path, None, path.stem))
    source.capture.release()
    if samples:
        write_sample_list(samples, folder / LIST)
    log(f"{len(samples)} frames of '{video}' in {folder / LIST}")
    counted = source.num_frames or 0 if source.is_counted else 0  # else a guess from the duration
    wanted = range(0, max(last + 1, counted), options.every)
    if len(samples) < len(wanted):
        raise CheckFailed(
            f"--video: '{video}': {len(wanted) - len(samples)} of {len(wanted)} frames could not "
            "be decoded"
        )
    return len(samples)
