"""The run of `infer --video` and `--camera`: one overlay video and `inference.json`."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

from paddleseg_ext.common.errors import STATUS_DONE, STATUS_FAILED
from paddleseg_ext.common.files import write_json
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.progress import track
from paddleseg_ext.images.video import CameraFrames, Frame, Source, read_frames
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.video import (
    MOST_GAP_SECONDS,
    VideoOutcome,
    VideoSettings,
    predict_video,
    result_path,
)

RESULT = "inference.json"


def run_video(predictor: Predictor, source: Source, settings: VideoSettings) -> int:
    """Predict a video or a camera, write the overlays, log and record the outcome.

    A camera runs until it ends, `most_frames` are done, or Ctrl-C or SIGTERM comes; the video is
    complete then.

    Returns:
        The exit status: 1 where a frame failed or a file holds fewer than its container says.

    Raises:
        DataError: no frame came, or the result cannot be written.
    """
    with _frames_of(source) as frames:
        wanted = islice(frames, settings.most_frames)
        outcome = predict_video(predictor, source, wanted, settings, _tracker(source, settings))
    missing = _missing(source, outcome, settings.most_frames)
    _report(source, outcome, missing, settings, predictor.describe(again=True).to_dict())
    incomplete = missing > 0 and source.is_counted
    return STATUS_FAILED if outcome.num_failed or incomplete else STATUS_DONE


def _tracker(
    source: Source, settings: VideoSettings
) -> Callable[[Iterable[Frame]], Iterable[Frame]]:
    if not settings.print_detail:
        return iter
    totals = [n for n in (source.num_frames, settings.most_frames) if n]
    return partial(track, description=source.path.name, total=min(totals, default=None))


@contextmanager
def _frames_of(source: Source) -> Iterator[Iterable[Frame]]:
    """The frames of a video or a running camera, which is released afterwards."""
    try:
        # Closed before the capture is released: a thread of its own may be reading from it.
        opened = _filming(source) if source.is_camera else closing(read_frames(source))
        with opened as frames:
            yield frames
    finally:
        source.capture.release()


@contextmanager
def _filming(source: Source) -> Iterator[Iterable[Frame]]:
    """A running camera; SIGTERM or a first Ctrl-C ends the film, the second one the program."""
    frames = CameraFrames(source)

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        frames.stop()

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    log(f"{source.path}: Ctrl-C ends the film and completes the video")
    try:
        yield frames
    finally:
        frames.join()
        for number, handler in before.items():
            signal.signal(number, handler)


def _missing(source: Source, outcome: VideoOutcome, most_frames: int | None) -> int:
    """Number of frames that the container promises and that could not be decoded."""
    expected = min(n for n in (source.num_frames or 0, most_frames) if n is not None)
    return max(0, expected - (outcome.num_written - outcome.num_repeated))


def _report_consistency(source: Source, outcome: VideoOutcome) -> None:
    if outcome.consistency is not None and outcome.compared_pixels is not None:
        log(
            f"temporal consistency {outcome.consistency:.4f}: of the "
            f"{outcome.compared_pixels:.1%} of the pixels that optical flow finds again in the "
            "next frame, those that keep their class"
        )
    if outcome.no_consistency:
        warn(f"{source.path}: no temporal consistency: {outcome.no_consistency}")


def _report(
    source: Source,
    outcome: VideoOutcome,
    missing: int,
    settings: VideoSettings,
    backend: dict[str, Any],
) -> None:
    path = result_path(source, settings.save_dir, outcome.codec)
    rate = outcome.num_predicted / outcome.seconds if outcome.seconds else 0.0
    log(
        f"{outcome.num_written} frames at {source.frames_per_second:g} a second written to {path} "
        f"({outcome.codec}); "
        f"{outcome.num_predicted} predicted, {rate:.1f} a second"
        + (f", {outcome.num_equal} of them equal to the one before" if outcome.num_equal else "")
        + (f", {outcome.num_dropped} dropped" if source.is_camera else "")
    )
    _report_consistency(source, outcome)
    if outcome.num_repeated:
        log(
            f"{source.path}: its frames come at a variable rate; {outcome.num_repeated} overlays "
            "were repeated, so that the video lasts as long"
        )
    if outcome.num_jumps:
        warn(
            f"{source.path}: {outcome.num_jumps} gaps between two frames are above "
            f"{MOST_GAP_SECONDS:g} seconds; they were left out of the video"
        )
    if outcome.num_failed:
        log(f"{outcome.num_failed} frames failed, the first: {outcome.first_error}", "ERROR")
    if outcome.first_resized is not None:
        warn(
            f"{source.path}: the size of its pictures changes at frame {outcome.first_resized}; "
            f"{outcome.num_resized} overlays were resized to the first size, "
            "{1}x{0} (width x height)".format(*source.size_hw)
        )
    if missing and source.is_counted:
        log(f"{source.path}: {missing} frames of its header's count cannot be decoded", "ERROR")
    elif missing:
        warn(
            f"{source.path}: {missing} fewer frames than its duration promises; this kind of file "
            "stores no count, and its sound may last longer"
        )
    result = {
        "title": "video",
        "source": {**settings.what_ran, "backend": backend, "video": str(source.path)},
        "frames_per_second": source.frames_per_second,
        "size_hw": list(source.size_hw),
        "batch_size": settings.batch_size,
        "predicted_per_second": rate,
        "num_missing": missing,
    }
    write_json(settings.save_dir / RESULT, result | asdict(outcome))
