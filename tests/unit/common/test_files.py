"""Files and folders are there whole, or not at all."""

import errno
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from paddleseg_ext.common import files
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import atomic_directory, atomic_path


def test_a_folder_is_never_seen_half_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "iter_1"
    folder.mkdir()
    (folder / "weights").write_text("w", encoding="utf-8")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files.shutil, "rmtree", killed)
        files.delete_directory(folder)
    assert not folder.exists()
    files.delete_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_leftovers_are_what_writers_left(tmp_path: Path) -> None:
    (tmp_path / f"{files.TEMPORARY_PREFIX}abc.json").write_text("half", encoding="utf-8")
    (tmp_path / f"{files.TEMPORARY_PREFIX}def").mkdir()
    (tmp_path / "history.json").write_text("{}", encoding="utf-8")
    files.delete_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["history.json"]


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    """And whoever is killed leaves it free."""
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\nfrom paddleseg_ext.common.files import sole_writer\n"
            "with sole_writer(sys.argv[1], '--save_dir'):\n"
            "    print('held', flush=True); time.sleep(60)",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with (
        pytest.raises(UsageError, match="--save_dir: another process is writing"),
        files.sole_writer(tmp_path, "--save_dir"),
    ):
        pass
    holder.kill()
    holder.wait()
    with files.sole_writer(tmp_path, "--save_dir"):
        pass


def test_a_full_disk_names_the_file_and_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    files.write_bytes(path, b"before")
    with pytest.raises(OSError, match="No space left") as full, files.atomic_path(path) as half:
        half.write_bytes(b"af")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.mkdir()
    with pytest.raises(OSError, match="directory") as occupied:
        files.write_bytes(path, b"page")
    assert occupied.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_without_room_is_refused_with_its_figures(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    files.require_room(tmp_path, 5_000_000, "--save_dir", "its checkpoints")
    with pytest.raises(UsageError, match="5 MB free, and its checkpoints take up to 6 MB"):
        files.require_room(tmp_path, 6_000_000, "--save_dir", "its checkpoints")


def test_a_folder_in_place_of_its_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        files.require_file(tmp_path, "--model_path")
    assert str(caught.value).endswith("is a folder; a file is expected")
    (tmp_path / "model.pdparams").write_bytes(b"weights")
    with pytest.raises(UsageError) as caught:
        files.require_file(tmp_path, "--model_path")
    assert str(caught.value).endswith(f"(did you mean '{tmp_path}/model.pdparams'?)")


@contextmanager
def limited() -> Iterator[None]:
    """Files may have at most 4 KiB in this process, as under `ulimit -f 4`.

    No fixture: pytest writes its report before it ends one, maybe to a longer file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def cut_off(path: Path) -> None:
    """As writers in C++ do it: what does not fit is left out, and nothing is said."""
    with suppress(OSError):
        path.write_bytes(bytes(5000))


@pytest.mark.parametrize("fails", [False, True])
def test_a_file_that_a_silent_writer_cut_off(tmp_path: Path, fails: bool) -> None:
    """Also where the reader of that file calls it damaged."""
    with (
        limited(),
        pytest.raises(OSError, match="File too large") as caught,
        atomic_path(tmp_path / "x") as to,
    ):
        cut_off(to)
        if fails:
            raise UsageError("x: damaged")
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(tmp_path / "x")
    folder = tmp_path / "d"
    with (
        limited(),
        pytest.raises(OSError, match="File too large") as caught,
        atomic_directory(folder) as d,
    ):
        cut_off(d / "model.json")
        if fails:
            raise UsageError("d/model.json: damaged")
    assert caught.value.filename == str(tmp_path / "d" / "model.json")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_replacement_brings_the_earlier_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "weights").write_text("earlier", encoding="utf-8")
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if target == folder and self.name.startswith(files.TEMPORARY_PREFIX):
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", interrupted)
        with atomic_directory(folder) as new:
            (new / "weights").write_text("new", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (folder / "weights").read_text(encoding="utf-8") == "earlier"


def test_another_error_under_a_limit_keeps_its_words(tmp_path: Path) -> None:
    with (
        limited(),
        pytest.raises(UsageError, match="another"),
        atomic_path(tmp_path / "x") as to,
    ):
        to.write_bytes(bytes(4000))
        raise UsageError("another")


def test_a_full_disk_explains_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(OSError, match="No space left"), atomic_path(tmp_path / "x"):
        raise UsageError("x: damaged")
