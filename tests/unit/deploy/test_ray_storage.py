"""Where the batch on Ray reads and writes; without Ray."""

import os
import uuid
from pathlib import Path

import pytest

from deploy.ray import storage
from paddleseg_ext.common.errors import UsageError

pytest.importorskip("fsspec")
LATIN_1 = os.fsdecode(b"caf\xe9.png")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"?")
    return folder


def names(found: list[str]) -> list[str]:
    return [path.rpartition("/")[2] for path in found]


def test_a_folder_a_list_and_one_image(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "b.png", "deep/a.JPG", "notes.txt")
    out = str(tmp_path / "out")
    found = storage.list_images(str(images), out)
    assert found == [f"file://{images}/b.png", f"file://{images}/deep/a.JPG"]
    listed = tmp_path / "images.list"
    listed.write_text(f"{images}/b.png\n\n{images}/deep/a.JPG \n{images}/b.png\n")
    assert storage.list_images(str(listed), out) == found
    assert storage.list_images(str(images / "b.png"), out) == found[:1]


def test_what_lies_below_save_dir_is_no_input(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a.png", "out/label_maps/00/a-0.png", "outside/b.png")
    (tmp_path / "linked").symlink_to(images)
    for root, out in [("images", "images/out"), ("images", "linked/out"), ("linked", "images/out")]:
        found = storage.list_images(str(tmp_path / root), str(tmp_path / out))
        assert names(found) == ["a.png", "b.png"]
    listed = touch(tmp_path, "images.list") / "images.list"
    listed.write_text(f"{images}/a.png\n{images}/out/label_maps/00/a-0.png\n")
    assert names(storage.list_images(str(listed), str(images / "out"))) == ["a.png"]
    for out in (images, tmp_path):
        with pytest.raises(UsageError, match="take another --save_dir"):
            storage.list_images(str(images), str(out))


def test_below_save_dir_in_an_object_store() -> None:
    import fsspec

    bucket = f"memory://{uuid.uuid4().hex}"
    filesystem, root = fsspec.core.url_to_fs(bucket)
    for name in ("a.png", "out/label_maps/a.png"):
        filesystem.pipe_file(f"{root}/{name}", b"?")
    assert names(storage.list_images(bucket, f"{bucket}/out/")) == ["a.png"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\x89PNG\r\n", "a list of paths in UTF-8 is expected"),
        (b"a.png\nfoo://x/a.png\n", "line 2: 'foo://x/a.png': .*foo"),
        (b"\n", "no image is in"),
    ],
)
def test_a_wrong_list(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "images.list").write_bytes(content)
    with pytest.raises(UsageError, match=f"--images: .*{expected}"):
        storage.list_images(str(tmp_path / "images.list"), str(tmp_path / "out"))


def test_wrong_paths(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--images: 'foo://x'"):
        storage.list_images("foo://x", str(tmp_path))
    with pytest.raises(UsageError, match="--save_dir: 'foo://x'"):
        storage.absolute("foo://x", "--save_dir")
    with pytest.raises(UsageError, match=r"--save_dir: 'out\\udce9' is not UTF-8"):
        storage.absolute(os.fsdecode(b"out\xe9"), "--save_dir")


def test_a_protocol_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def refuse(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(UsageError, match="--images: 's3://b': Install s3fs"):
        storage.list_images("s3://b", "out")


def test_a_relative_save_dir_is_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("out", "--save_dir") == str(tmp_path / "out")
    assert storage.absolute("memory://out", "--save_dir") == "memory://out"


def test_names_of_other_encodings(tmp_path: Path) -> None:
    found = storage.list_images(str(touch(tmp_path / "images", LATIN_1)), str(tmp_path / "out"))
    assert not storage.is_text(found[0]) and storage.is_text("café.png")
    assert names([storage.printable(found[0])]) == [r"caf\udce9.png"]


def test_outputs_have_short_names_of_their_own(tmp_path: Path) -> None:
    long = "ü" * 125
    first, second = (storage.output_name(f"file:///{i}/{long}.png") for i in "ab")
    assert first != second
    storage.write_whole(str(tmp_path / first), b"whole")
    assert (tmp_path / first).read_bytes() == b"whole"
