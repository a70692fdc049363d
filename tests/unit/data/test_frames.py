"""Frames of videos, as images with a list."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.commands import data as cli
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.images.samples import read_sample_list


def _film(path: Path, num_frames: int = 7) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12.5, (96, 64))
    for number in range(num_frames):
        writer.write(np.full((64, 96, 3), (0, 0, 30 * number), np.uint8))  # BGR
    writer.release()


def test_every_third_frame(tmp_path: Path) -> None:
    _film(tmp_path / "drive.mp4")
    flags = ["frames", str(tmp_path / "drive.mp4"), "--every", "3", "--save_dir"]
    cli.main([*flags, str(tmp_path / "out")])
    samples = read_sample_list(tmp_path / "out/frames.list")
    assert [s.image.name for s in samples] == [f"drive_{n:06d}.png" for n in (0, 3, 6)]
    for sample, number in zip(samples, (0, 3, 6), strict=True):
        red, green, blue = read_image(sample.image).reshape(-1, 3).mean(axis=0)
        assert abs(red - 30 * number) < 6 and green < 6 and blue < 6
    kept = samples[0].image.stat().st_mtime_ns
    samples[1].image.unlink()
    cli.main([*flags, str(tmp_path / "out")])
    assert samples[0].image.stat().st_mtime_ns == kept and samples[1].image.is_file()


def test_wrong_use_and_lost_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no.mp4").write_text("no film")
    with pytest.raises(UsageError, match="is no video"):
        cli.main(["frames", str(tmp_path / "no.mp4"), "--save_dir", str(tmp_path / "out")])
    _film(tmp_path / "a.mp4")
    from paddleseg_ext.data import frames

    def lossy(source):  # type: ignore[no-untyped-def]
        return (frame for frame in kept(source) if frame.number != 4)

    kept = frames.read_frames
    monkeypatch.setattr(frames, "read_frames", lossy)
    with pytest.raises(CheckFailed, match="1 of 4 frames could not be decoded"):
        frames.write_frames(tmp_path / "a.mp4", tmp_path / "out", frames.FrameOptions(every=2))
