"""Videos: every frame, in order, at the input's rate; cameras: what is dropped is counted."""

import json
import os
import signal
import threading
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from engines import predictor_of
from PIL import Image

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.images.labels import ClassTable, generic_table
from paddleseg_ext.images.video import Source, open_camera, open_video, read_frames
from paddleseg_ext.inference.flow import TemporalConsistency
from paddleseg_ext.inference.outputs import blend
from paddleseg_ext.inference.video import VideoSettings, predict_video
from paddleseg_ext.inference.video_files import CODECS, PLAYED_BY_BROWSERS
from paddleseg_ext.inference.video_run import run_video

from .conftest import BrightnessNetwork

HEIGHT, WIDTH = 64, 96
GRAYS = (40, 128, 215)
CLOSE = 12  # gray levels that the codec may move a flat area


def table() -> ClassTable:
    return generic_table(3)


def frame_of(number: int) -> np.ndarray:
    """A ground of one gray and a square of another that moves a step to the right each frame."""
    frame = np.full((HEIGHT, WIDTH, 3), GRAYS[number % 2], np.uint8)
    frame[16:48, 4 * number : 4 * number + 32] = GRAYS[2]
    return frame


def write_video(path: Path, num_frames: int = 10, rate: float = 12.5) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, (WIDTH, HEIGHT))
    for number in range(num_frames):
        writer.write(frame_of(number))
    writer.release()
    return path


def frames_in(path: Path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        done, frame = capture.read()
        if not done:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(frame)


def run(source: Source, save_dir: Path, network: BrightnessNetwork, **more) -> tuple[int, dict]:
    settings = VideoSettings(save_dir, print_detail=False, **more)
    status = run_video(predictor_of(network), source, settings)
    return status, json.loads((save_dir / "inference.json").read_text())


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, None), (4, 2), (3, 0)])
def test_every_frame_in_order_at_the_inputs_rate(
    tmp_path: Path, brightness: BrightnessNetwork, batch_size: int, num_workers: int | None
) -> None:
    source = open_video(write_video(tmp_path / "in.mp4"))
    status, result = run(
        source, tmp_path / "out", brightness, batch_size=batch_size, num_workers=num_workers
    )
    frames, rate = frames_in(tmp_path / "out/overlays/in.webm")
    assert (status, len(frames), rate) == (0, 10, 12.5)
    assert (result["num_predicted"], result["num_dropped"], result["num_failed"]) == (10, 0, 0)
    for number, got in enumerate(frames):
        read = cv2.cvtColor(frame_of(number), cv2.COLOR_BGR2RGB)
        labels = np.searchsorted([84, 171], read[:, :, 0]).astype(np.uint8)
        expected = cv2.cvtColor(blend(read, labels, table()), cv2.COLOR_RGB2BGR)
        assert np.abs(got.astype(int) - expected).mean() < CLOSE, number
    assert list((tmp_path / "out/overlays").iterdir()) == [tmp_path / "out/overlays/in.webm"]


def test_most_frames_and_shown_rate(tmp_path: Path, brightness: BrightnessNetwork) -> None:
    path = write_video(tmp_path / "in.mp4")
    for show_fps in (False, True):
        folder = tmp_path / str(show_fps)
        status, _ = run(open_video(path), folder, brightness, most_frames=4, show_fps=show_fps)
        assert status == 0
    plain, shown = (frames_in(tmp_path / f"{way}/overlays/in.webm")[0] for way in (False, True))
    assert len(plain) == len(shown) == 4
    difference = np.abs(plain[3].astype(int) - shown[3])
    assert difference[:10, :50].mean() > 10 > difference[20:].mean()


def test_a_frame_that_fails_stays_as_it_was(tmp_path: Path) -> None:
    class Failing(BrightnessNetwork):
        def run(self, batch: np.ndarray) -> np.ndarray:
            if len(self.batches) == 2:
                self.batches.append(batch.shape)
                raise DataError("the third one is too much")
            return super().run(batch)

    source = open_video(write_video(tmp_path / "in.mp4", 5))
    status, result = run(source, tmp_path / "out", Failing())
    frames, _ = frames_in(tmp_path / "out/overlays/in.webm")
    assert (status, len(frames)) == (1, 5)
    assert (result["num_predicted"], result["num_failed"]) == (4, 1)
    assert "frame 2" in result["first_error"] and "too much" in result["first_error"]
    assert np.abs(frames[2].astype(int) - frame_of(2)).mean() < CLOSE
    assert np.abs(frames[3].astype(int) - frame_of(3)).mean() > CLOSE


def still(path: Path) -> Path:
    """Four frames, and three, two and one more that equal them; without a loss."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 12.5, (WIDTH, HEIGHT))
    for number, times in enumerate((4, 3, 2, 1)):
        for _ in range(times):
            writer.write(frame_of(number))
    writer.release()
    return path


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, None), (4, 2), (3, 0)])
def test_equal_frames_are_predicted_once(
    tmp_path: Path, brightness: BrightnessNetwork, batch_size: int, num_workers: int | None
) -> None:
    given = {"batch_size": batch_size, "num_workers": num_workers, "video_codec": "mp4v"}
    status, result = run(open_video(still(tmp_path / "in.avi")), tmp_path, brightness, **given)
    assert sum(shape[0] for shape in brightness.batches) == 4
    assert (status, result["num_predicted"], result["num_equal"]) == (0, 10, 6)
    assert (result["num_written"], result["num_failed"], result["num_missing"]) == (10, 0, 0)
    frames, _ = frames_in(tmp_path / "overlays/in.mp4")
    expected = [0] * 4 + [1] * 3 + [2] * 2 + [3]
    for got, number in zip(frames, expected, strict=True):
        assert np.abs(got[24, 4 * number + 2].astype(int) - frames[-1][24, 14]).mean() < CLOSE


def test_equal_frames_keep_their_classes(tmp_path: Path, brightness: BrightnessNetwork) -> None:
    _, result = run(open_video(still(tmp_path / "in.avi")), tmp_path, brightness, consistency=True)
    assert result["num_equal"] > 0 and result["no_consistency"] == ""
    consistency = TemporalConsistency()
    for frame in read_frames(open_video(tmp_path / "in.avi")):
        found = predictor_of(brightness)(cv2.cvtColor(frame.pixels, cv2.COLOR_BGR2RGB))
        consistency.add(found.image, found.label_map)
    assert result["consistency"] == pytest.approx(consistency.share, abs=1e-3)
    assert result["compared_pixels"] == pytest.approx(consistency.compared_share, abs=1e-3)


@pytest.mark.parametrize(
    ("num_frames", "size_wh", "why"),
    [(1, (WIDTH, HEIGHT), "there is no pair of frames"), (3, (16, 10), "finds no pixel")],
)
def test_a_film_without_consistency_says_why(
    tmp_path: Path,
    brightness: BrightnessNetwork,
    capsys: pytest.CaptureFixture,
    num_frames: int,
    size_wh: tuple[int, int],
    why: str,
) -> None:
    path = tmp_path / "in.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 12.5, size_wh)
    for number in range(num_frames):
        writer.write(cv2.resize(frame_of(number), size_wh))
    writer.release()
    status, result = run(open_video(path), tmp_path, brightness, consistency=True)
    assert status == 0 and result["consistency"] is None and why in result["no_consistency"]
    assert f"{path}: no temporal consistency: {result['no_consistency']}" in capsys.readouterr().out
    run(open_video(path), tmp_path, brightness)
    assert "consistency" not in capsys.readouterr().out, "it was not asked for"


def test_equal_frames_share_failure_and_confidence(tmp_path: Path) -> None:
    class Failing(BrightnessNetwork):
        def run(self, batch: np.ndarray) -> np.ndarray:
            if len(self.batches) == 1:
                self.batches.append(batch.shape)
                raise DataError("the second one is too much")
            return super().run(batch)

    source = open_video(still(tmp_path / "in.avi"))
    predictor = predictor_of(Failing()).with_outputs({"confidence"})
    settings = VideoSettings(tmp_path, print_detail=False, most_frames=9, save_label_maps=True)
    assert run_video(predictor, source, settings) == 1
    result = json.loads((tmp_path / "inference.json").read_text())
    assert (result["num_predicted"], result["num_equal"], result["num_failed"]) == (6, 4, 3)
    files = sorted((tmp_path / "confidence/in").iterdir())
    assert [int(file.stem) for file in files] == [0, 1, 2, 3, 7, 8]
    assert len({file.read_bytes() for file in files[:4]}) == 1
    maps = sorted((tmp_path / "label_maps/in").iterdir())
    assert [file.name for file in maps] == [file.name for file in files]


def test_an_interrupt_leaves_no_video(tmp_path: Path) -> None:
    class Interrupted(BrightnessNetwork):
        def run(self, batch: np.ndarray) -> np.ndarray:
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().run(batch)

    with pytest.raises(KeyboardInterrupt):
        run(open_video(write_video(tmp_path / "in.mp4")), tmp_path / "out", Interrupted())
    assert list((tmp_path / "out/overlays").iterdir()) == []


class Damaged:
    """A capture that cannot decode some frames."""

    def __init__(self, capture: cv2.VideoCapture, lost: set[int]):
        self.capture, self.lost, self.number = capture, lost, -1

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.number += 1
        read = self.capture.read()
        return (False, None) if self.number in self.lost else read

    def get(self, what: int) -> float:
        return self.capture.get(what)

    def release(self) -> None:
        self.capture.release()


def damaged_video(folder: Path, lost: set[int], suffix: str = ".mp4") -> Source:
    """Promises ten frames."""
    whole = open_video(write_video(folder / "in.mp4"))
    capture = Damaged(whole.capture, lost)
    path = whole.path.with_suffix(suffix)
    return Source(path, capture, whole.frames_per_second, whole.size_hw, 10)


class Timed(Damaged):
    """A capture whose frames come at times of their own, in seconds."""

    def __init__(self, capture: cv2.VideoCapture, times: list[float]):
        super().__init__(capture, set())
        self.times = times

    def get(self, what: int) -> float:
        assert what == cv2.CAP_PROP_POS_MSEC
        return 1000.0 * self.times[self.number] if self.number < len(self.times) else 0.0


@pytest.mark.parametrize(
    ("times", "repeats", "jumps"),
    [
        ([0.0, 0.8, 1.6, 2.4], [1, 10, 10, 10], 0),  # ten slots between two frames
        ([5.0, 5.08, 5.4, 5.48], [1, 1, 4, 1], 0),  # the clock starts later
        ([0.0, 0.19, 0.2, 0.24], [1, 1, 1, 1], 0),  # less than 1.5 slots late
        ([0.0, 0.01, 0.02, 0.8], [1, 1, 1, 8], 0),  # a burst before a gap
        ([0.0, 0.0, 0.0, 0.0], [1, 1, 1, 1], 0),  # a container without times
        ([0.0, float("nan"), float("inf"), 0.24], [1, 1, 1, 1], 0),
        ([0.0, 0.08, 95443.8, 95444.6], [1, 1, 1, 10], 1),  # a clock that wraps around
        ([95443.8, 0.0, 0.08, 0.16], [1, 1, 1, 1], 1),
    ],
)
def test_a_variable_rate_keeps_its_duration(
    tmp_path: Path,
    brightness: BrightnessNetwork,
    capsys: pytest.CaptureFixture,
    times: list[float],
    repeats: list[int],
    jumps: int,
) -> None:
    whole = open_video(write_video(tmp_path / "in.mp4", 4))
    source = replace(whole, capture=Timed(whole.capture, times))
    status, result = run(source, tmp_path / "out", brightness, video_codec="mp4v")
    frames, rate = frames_in(tmp_path / "out/overlays/in.mp4")
    assert (status, rate, result["num_predicted"], result["num_missing"]) == (0, 12.5, 4, 0)
    assert len(frames) == result["num_written"] == sum(repeats)
    assert (result["num_repeated"], result["num_jumps"]) == (sum(repeats) - 4, jumps)
    assert len(brightness.batches) == 4
    told = capsys.readouterr()
    assert ("variable rate" in told.out + told.err) == (sum(repeats) > 4)
    # A late frame waits for its slot; the one before it is shown until then.
    starts = np.cumsum(repeats) - 1
    for number in range(1, 4):
        for before in range(starts[number - 1] + 1, starts[number]):
            moved = np.abs(frames[before].astype(int) - frames[starts[number - 1]]).mean()
            assert moved < CLOSE / 3, (number, before)


def test_the_video_plays_in_browsers(tmp_path: Path, brightness: BrightnessNetwork) -> None:
    path = write_video(tmp_path / "in.mp4", 3)
    codes = {"avc1": ("avc1", "h264"), "vp09": ("vp09", "vp90"), "vp08": ("vp08", "vp80")}
    codes["mp4v"] = ("mp4v", "fmp4", "m4v2")
    for wanted in ("auto", "vp08", "mp4v"):
        _, result = run(open_video(path), tmp_path / wanted, brightness, video_codec=wanted)
        codec = result["codec"]
        assert codec == wanted or (wanted == "auto" and codec in PLAYED_BY_BROWSERS)
        written = tmp_path / wanted / f"overlays/in{CODECS[codec]}"
        capture = cv2.VideoCapture(str(written))
        code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode().lower()
        assert code in codes[codec]
        assert (written.suffix == ".webm") == codec.startswith("vp")


def test_opening_a_writer_prints_nothing(
    tmp_path: Path, brightness: BrightnessNetwork, capfd: pytest.CaptureFixture[str]
) -> None:
    run(open_video(write_video(tmp_path / "in.mp4", 3)), tmp_path, brightness)
    assert "OpenCV" not in capfd.readouterr().err


def test_without_encoders_for_browsers(
    tmp_path: Path, brightness: BrightnessNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPEG-4 part 2, which browsers do not play, comes only where it is asked for."""
    path = write_video(tmp_path / "in.mp4", 3)
    monkeypatch.setitem(CODECS, "none", ".mp4")
    monkeypatch.setattr("paddleseg_ext.inference.video_files.PLAYED_BY_BROWSERS", ("none",))
    with pytest.raises(DataError, match="try --video_codec mp4v"):
        run(open_video(path), tmp_path / "a", brightness)
    with pytest.raises(DataError, match="as none; leave --video_codec out"):
        run(open_video(path), tmp_path / "b", brightness, video_codec="none")
    assert not (tmp_path / "a").exists()


def test_label_maps_per_frame(tmp_path: Path, brightness: BrightnessNetwork) -> None:
    source = open_video(write_video(tmp_path / "in.mp4", 3))
    frames = [frame.pixels for frame in read_frames(source)]
    run(open_video(tmp_path / "in.mp4"), tmp_path / "out", brightness, save_label_maps=True)
    found = sorted((tmp_path / "out/label_maps/in").iterdir())
    assert [path.name for path in found] == ["000000.png", "000001.png", "000002.png"]
    predictor = predictor_of(brightness)
    for path, pixels in zip(found, frames, strict=True):
        expected = predictor(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)).label_map
        np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)
    (tmp_path / "out/label_maps/in/notes.png").write_bytes(b"a user's")
    (tmp_path / "shorter").mkdir()
    shorter = write_video(tmp_path / "shorter/in.mp4", 2)
    run(open_video(shorter), tmp_path / "out", brightness, save_label_maps=True)
    left = sorted(path.name for path in (tmp_path / "out/label_maps/in").iterdir())
    assert left == ["000000.png", "000001.png", "notes.png"]
    run(open_video(tmp_path / "in.mp4"), tmp_path / "none", brightness)
    assert not (tmp_path / "none/label_maps").exists()


@pytest.mark.parametrize(
    ("suffix", "given", "status"),
    [(".mp4", 4, 1), (".mp4", 9, 1), (".AVI", 9, 1), (".mkv", 8, 0), (".ts", 7, 0)],
)
def test_a_video_that_was_cut_short_is_written_and_told(
    tmp_path: Path,
    brightness: BrightnessNetwork,
    capsys: pytest.CaptureFixture,
    suffix: str,
    given: int,
    status: int,
) -> None:
    """A container that stores no count ends where its pictures end, which is a remark."""
    source = damaged_video(tmp_path, set(range(given, 10)), suffix)
    got, result = run(source, tmp_path / "out", brightness)
    assert (got, result["num_missing"], result["num_written"]) == (status, 10 - given, given)
    told = "frames of its header's count" if status else "fewer frames than its duration"
    assert f"{10 - given} {told}" in capsys.readouterr().out


@pytest.mark.parametrize(("lost", "stands_in"), [({3, 4, 6}, 2), ({0, 1}, 2)])
def test_frames_that_cannot_be_decoded_lose_no_others(
    tmp_path: Path, brightness: BrightnessNetwork, lost: set[int], stands_in: int
) -> None:
    status, result = run(damaged_video(tmp_path, lost), tmp_path / "out", brightness)
    assert (status, result["num_written"], result["num_missing"]) == (1, 10, 0)
    assert (result["num_predicted"], result["num_failed"]) == (10 - len(lost), len(lost))
    assert result["first_error"] == f"frame {min(lost)}: it cannot be decoded"
    frames, _ = frames_in(tmp_path / "out/overlays/in.webm")
    (tmp_path / "whole").mkdir()
    run(damaged_video(tmp_path / "whole", set()), tmp_path / "whole", brightness)
    whole, _ = frames_in(tmp_path / "whole/overlays/in.webm")
    for number, frame in enumerate(frames):  # those behind the gap at their own time
        expected = whole[stands_in if number in lost - {6} else 5 if number in lost else number]
        assert np.abs(frame.astype(int) - expected).mean() < CLOSE, number


def test_the_capture_is_released_when_nobody_reads_from_it(
    tmp_path: Path, brightness: BrightnessNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder fails while the reader is ahead."""
    reading, released_while = threading.Event(), []

    class Slow(Damaged):
        def read(self) -> tuple[bool, np.ndarray | None]:
            reading.set()
            time.sleep(0.05)
            read = super().read()
            reading.clear()
            return read

        def release(self) -> None:
            released_while.append(reading.is_set())

    def fail(*_: object) -> None:
        time.sleep(0.08)
        raise OSError(28, "No space left")

    monkeypatch.setattr("paddleseg_ext.inference.video._Pen.write", fail)
    source = damaged_video(tmp_path, set())
    slow = Source(source.path, Slow(source.capture.capture, set()), 12.5, source.size_hw, 10)
    with pytest.raises(OSError, match="No space left"):
        run(slow, tmp_path / "out", brightness)
    assert released_while == [False]
    assert not [t.name for t in threading.enumerate() if t.name.startswith("pipeline")]


def test_the_result_never_replaces_the_input(tmp_path: Path, brightness: BrightnessNetwork) -> None:
    (tmp_path / "overlays").mkdir()
    path = write_video(tmp_path / "overlays/in.mp4")
    with pytest.raises(UsageError, match="is the video itself"):
        run(open_video(path), tmp_path, brightness)
    assert len(frames_in(path)[0]) == 10


def test_a_writer_that_lost_frames_is_noticed(
    tmp_path: Path, brightness: BrightnessNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: OpenCV says nothing."""
    source = open_video(write_video(tmp_path / "in.mp4"))
    real = cv2.VideoWriter

    class Losing:
        fourcc = staticmethod(real.fourcc)

        def __init__(self, *arguments: object):
            self.writer, self.count = real(*arguments), 0

        def write(self, frame: np.ndarray) -> None:
            self.count += 1
            if self.count < 5:
                self.writer.write(frame)

        def __getattr__(self, name: str) -> object:
            return getattr(self.writer, name)

    monkeypatch.setattr(cv2, "VideoWriter", Losing)
    with pytest.raises(DataError, match="10 frames were written and 4 are there"):
        run(source, tmp_path / "out", brightness)
    assert not (tmp_path / "out/overlays/in.webm").exists()


class FakeCamera:
    """Gives a frame every `interval` seconds, `num_frames` in all; tells no frame rate."""

    opened = True
    num_frames = 40
    interval = 0.01

    def __init__(self, index: int, *_: int):
        self.number = 0
        self.released = False

    def isOpened(self) -> bool:
        return self.opened

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FRAME_HEIGHT: HEIGHT, cv2.CAP_PROP_FRAME_WIDTH: WIDTH}.get(what, 0.0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(self.interval)
        self.number += 1
        return (
            (True, frame_of(self.number % 8)) if self.number <= self.num_frames else (False, None)
        )

    def release(self) -> None:
        self.released = True


def camera(monkeypatch: pytest.MonkeyPatch, kind: type) -> Source:
    with monkeypatch.context() as patched:
        patched.setattr(cv2, "VideoCapture", kind)
        return open_camera(0)


class SlowNetwork(BrightnessNetwork):
    """Takes as long as five frames of the camera."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return super().run(batch)


def test_a_camera_drops_what_comes_too_fast_and_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = camera(monkeypatch, FakeCamera)
    network = SlowNetwork()
    status, result = run(source, tmp_path, network)
    frames, rate = frames_in(tmp_path / "overlays/camera0.webm")
    assert status == 0 and source.capture.released
    assert rate == 25.0  # the camera tells none
    assert result["num_dropped"] > 10
    assert result["num_predicted"] == len(network.batches)
    # What was filmed up to the last predicted frame: the result lasts as long.
    assert len(frames) == result["num_written"] == result["num_predicted"] + result["num_dropped"]
    assert len(frames) <= FakeCamera.num_frames


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_completes_a_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    class Endless(FakeCamera):
        num_frames = 10**9

    source = camera(monkeypatch, Endless)
    before = signal.getsignal(number)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
    timer.start()
    status, result = run(source, tmp_path, BrightnessNetwork())
    assert status == 0 and result["num_predicted"] > 3
    assert len(frames_in(tmp_path / "overlays/camera0.webm")[0]) == result["num_written"]
    assert signal.getsignal(number) == before


def test_a_real_video(shared_dir: Path, tmp_path: Path, brightness: BrightnessNetwork) -> None:
    source = open_video(shared_dir / "data/video/street.mp4")
    frames = islice(read_frames(source), 5)
    outcome = predict_video(predictor_of(brightness), source, frames, VideoSettings(tmp_path))
    source.capture.release()
    written, rate = frames_in(tmp_path / "overlays/street.webm")
    assert outcome.num_predicted == len(written) == 5
    assert written[0].shape == (*source.size_hw, 3) and rate == source.frames_per_second


@pytest.mark.parametrize("num_workers", [0, 2])
def test_pictures_of_another_size_are_brought_to_the_first(
    tmp_path: Path, brightness: BrightnessNetwork, capsys: pytest.CaptureFixture, num_workers: int
) -> None:
    """Smaller and larger ones, and back again, as a camera that changes its resolution gives."""
    source = open_video(write_video(tmp_path / "in.mp4", 6))

    class Changing:
        number = 0

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.number += 1
            if self.number == 5:
                return True, None  # a frame that comes back empty
            if self.number > 6:
                return False, None
            width = {2: WIDTH // 2, 4: 2 * WIDTH}.get(self.number, WIDTH)
            return True, np.full((HEIGHT, width, 3), GRAYS[0], np.uint8)

        def get(self, what: int) -> float:
            return 0.0

        def release(self) -> None:
            pass

    source.capture.release()
    changing = replace(source, capture=Changing())
    status, result = run(changing, tmp_path / "out", brightness, num_workers=num_workers)
    assert status == 1 and result["num_failed"] == 1  # the empty one
    assert (result["num_resized"], result["first_resized"], result["num_written"]) == (2, 1, 6)
    assert "changes at frame 1; 2 overlays were resized" in capsys.readouterr().out
    frames, _ = frames_in(tmp_path / "out/overlays/in.webm")
    assert [frame.shape for frame in frames] == [(HEIGHT, WIDTH, 3)] * 6


def test_confidence_of_every_frame(tmp_path: Path, brightness: BrightnessNetwork) -> None:
    source = open_video(write_video(tmp_path / "in.mp4", 3))
    predictor = predictor_of(brightness).with_outputs({"confidence"}, unknown_below=0.4)
    settings = VideoSettings(tmp_path / "out", print_detail=False)
    assert run_video(predictor, source, settings) == 0
    folder = tmp_path / "out/confidence/in"
    assert [path.name for path in sorted(folder.iterdir())] == [f"{n:06}.png" for n in range(3)]
    assert cv2.imread(str(folder / "000002.png"), cv2.IMREAD_UNCHANGED).shape == (HEIGHT, WIDTH)
