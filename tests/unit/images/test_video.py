"""Video files and cameras as sources of frames."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.images.video import count_frames, open_camera, open_video, read_frames


def test_every_frame_of_a_file_in_order(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12.5, (96, 64))
    for number in range(9):
        writer.write(np.full((64, 96, 3), 25 * number, np.uint8))
    writer.release()
    source = open_video(path)
    frames = list(read_frames(source))
    source.capture.release()
    assert (source.size_hw, source.frames_per_second, source.is_camera) == ((64, 96), 12.5, False)
    assert count_frames(path) == source.num_frames == len(frames) == 9
    for number, frame in enumerate(frames):
        assert (frame.number, frame.image, frame.pixels.shape) == (number, path, (64, 96, 3))
        assert abs(frame.pixels.mean() - 25 * number) < 4
    assert count_frames(tmp_path / "nothing.mp4") == 0


@pytest.mark.parametrize("content", [b"hello\n" * 50, b"\x00\x00\x00\x18ftypmp42" + bytes(500)])
def test_what_is_no_video_is_refused(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture
) -> None:
    path = tmp_path / "no.mp4"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"no\.mp4' is no video"):
        open_video(path)
    with pytest.raises(UsageError, match="does not exist"):
        open_video(tmp_path / "nothing.mp4")
    assert "VIDEOIO" not in capfd.readouterr().err, "OpenCV would write a line of its own"


def test_no_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def __init__(self, index: int):
            self.index = index

        def isOpened(self) -> bool:
            return False

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Missing)
    with pytest.raises(UsageError, match="no such camera"):
        open_camera(0)


def test_no_camera_is_told_in_one_line(capfd: pytest.CaptureFixture) -> None:
    """OpenCV would write some of its own."""
    with pytest.raises(UsageError, match="no such camera"):
        open_camera(9999)
    assert capfd.readouterr() == ("", "")
