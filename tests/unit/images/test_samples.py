"""Lists of samples, read and written."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.images.samples import (
    Sample,
    collect_samples,
    folded_name,
    image_sizes,
    pair_by_key,
    pair_by_stem,
    read_sample_list,
    unique_names,
    write_sample_list,
)


def _image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((2, 2, 3), np.uint8))
    return path


def test_sizes_of_what_can_be_opened(tmp_path: Path) -> None:
    """A file that cannot be opened is left to the run; a long comment is no obstacle."""
    bomb = tmp_path / "bomb.png"
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(header))
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + crc)
    wordy = _image(tmp_path / "wordy.png")
    comment = b"zTXta\0\0" + zlib.compress(bytes(2 << 20))
    checksum = struct.pack(">I", zlib.crc32(comment))
    content = wordy.read_bytes()
    length = struct.pack(">I", len(comment) - 4)
    wordy.write_bytes(content[:33] + length + comment + checksum + content[33:])
    images = [_image(tmp_path / "a.png"), bomb, wordy, tmp_path / "no.png"]
    assert image_sizes(images) == [(2, 2), (2, 2)]


@pytest.mark.parametrize("mark", [" ", "\t", ",", ", ", "   "])
def test_separators(mark: str, tmp_path: Path) -> None:
    listed = tmp_path / "some.list"
    listed.write_text(f"\ufeffa/1.png{mark}b/1.png\r\n\r\na/2.png\n", encoding="utf-8")
    first, second = read_sample_list(listed)
    assert (first.image, first.label) == (tmp_path / "a/1.png", tmp_path / "b/1.png")
    assert (second.image, second.label) == (tmp_path / "a/2.png", None)


def test_names_are_found_in_the_root_the_lists_folder_and_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "lists" / "x.list"
    listed.parent.mkdir()
    listed.write_text("here.png\nbeside.png\n")
    _image(tmp_path / "here.png")
    _image(tmp_path / "lists" / "beside.png")
    monkeypatch.chdir(tmp_path)
    assert [sample.image.exists() for sample in read_sample_list(listed)] == [True, True]
    assert read_sample_list(listed, root="/data")[0].image == Path("/data/here.png")


def test_all_wrong_lines_are_listed(tmp_path: Path) -> None:
    listed = tmp_path / "x.list"
    listed.write_text("a b\na b c\nd e\nf g h i\n")
    with pytest.raises(UsageError, match=r"line 2: (.|\n)*line 4: "):
        read_sample_list(listed)


def test_an_image_that_is_named_again_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "x.list"
    listed.write_text("a.png l.png\nb.png l.png\na.png l.png\na.png m.png\n")
    assert len(read_sample_list(listed)) == 4
    assert "2 lines name an image once more, such as " in capsys.readouterr().out
    listed.write_text("a.png l.png\nb.png l.png\n")
    read_sample_list(listed)
    assert "once more" not in capsys.readouterr().out


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "blank.list").write_text("\n\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.bin").write_bytes(bytes(range(128, 256)))
    for name in ("blank.list", "folder", "absent.png", "absent.list", "model.bin"):
        with pytest.raises(UsageError, match=name):
            collect_samples(tmp_path / name)


def test_equal_names_in_different_folders_stay_apart(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png", "b/1.jpg"):
        _image(tmp_path / name)
    assert [s.name for s in collect_samples(tmp_path)] == ["a/1", "b/1.jpg", "b/1.png"]


def test_a_made_name_does_not_meet_a_given_one() -> None:
    images = ["a.jpg", "a.png", "a.jpg.png", "a.jpg_2.png"]
    assert unique_names([Path("/data", name) for name in images]) == [
        "a.jpg",
        "a.png",
        "a.jpg_3",
        "a.jpg_2",
    ]


def test_a_list_with_an_image_twice_beside_its_second_name() -> None:
    images = ["a.png", "a.png", "a.png_2.png", "a.png"]
    names = unique_names([Path("/data", name) for name in images])
    assert names == ["a.png", "a.png_3", "a.png_2", "a.png_4"]


@pytest.mark.parametrize("other", ["CAR.png", "cafe\u0301.png", "STRASSE.png"])
def test_names_that_some_disks_take_for_one_stay_apart(other: str) -> None:
    images = [
        Path("/data", name) for name in ("car.png", "caf\u00e9.png", "stra\u00dfe.png", other)
    ]
    names = [folded_name(name) for name in unique_names(images)]
    assert len(set(names)) == 4


NAMES = ["a/1.png", "a/1.jpg", "b/1.png", "2.png", "a/b/1.png", "A/1.png", "2_2.png", "2.png_2.jpg"]


@given(st.lists(st.sampled_from(NAMES)))
def test_names_are_unique_and_relative(paths: list[str]) -> None:
    names = unique_names([Path("/data") / path for path in paths])
    assert len(set(map(folded_name, names))) == len(names) == len(paths)
    assert not any(name.startswith("/") or ".." in name for name in names)


@pytest.mark.parametrize("name", ["a,b", "a\u3000b", "a\u00a0b"])
@pytest.mark.parametrize("labelled", [True, False])
def test_names_with_separators_read_back(name: str, labelled: bool, tmp_path: Path) -> None:
    label = _image(tmp_path / f"{name}_label.png") if labelled else None
    sample = Sample(_image(tmp_path / f"{name}.png"), label, name)
    write_sample_list([sample], tmp_path / "x.list")
    assert read_sample_list(tmp_path / "x.list") == [sample]


def test_a_list_in_a_linked_folder_reads_back(tmp_path: Path) -> None:
    """From there `..` leads to where the link points, and not to where it lies."""
    (tmp_path / "disk/far/away").mkdir(parents=True)
    (tmp_path / "lists").symlink_to(tmp_path / "disk/far/away")
    sample = Sample(_image(tmp_path / "i/a.png"), _image(tmp_path / "l/a.png"), "a")
    write_sample_list([sample], tmp_path / "lists/x.list")
    (again,) = read_sample_list(tmp_path / "lists/x.list")
    assert again.label is not None
    assert again.image.samefile(sample.image) and again.label.samefile(tmp_path / "l/a.png")


def test_a_written_list_reads_back(tmp_path: Path) -> None:
    samples = [
        Sample(_image(tmp_path / "i/with space.png"), _image(tmp_path / "l/1.png"), "with space"),
        Sample(_image(tmp_path / "i/2.png"), _image(tmp_path / "l/2.png"), "2"),
        Sample(_image(tmp_path / "i/3 4.png"), None, "3 4"),
    ]
    listed = tmp_path / "lists" / "x.list"
    write_sample_list(samples, listed)
    again = read_sample_list(listed)
    assert [s.image.resolve() for s in again] == [s.image for s in samples]
    assert [s.label and s.label.resolve() for s in again] == [s.label for s in samples]
    write_sample_list(samples[1:2], listed, root=tmp_path)
    assert listed.read_text() == "i/2.png l/2.png\n"


def test_names_with_spaces_want_a_tab(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("a street.png a label.png\n")
    with pytest.raises(UsageError, match="a tab follows each"):
        read_sample_list(path)
    path.write_text("a street.png\ta label.png\nan image.png\t\n")
    assert [sample.image.name for sample in read_sample_list(path)] == [
        "a street.png",
        "an image.png",
    ]


def test_what_a_killed_converter_left_is_no_sample(tmp_path: Path) -> None:
    for name in ("images/a.jpg", "images/.writing-b.jpg", "labels/a.png", "labels/.writing-x1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    samples, problems = pair_by_stem(tmp_path / "images", tmp_path / "labels", "train")
    assert ([sample.name for sample in samples], problems) == (["train/a"], [])


def test_two_images_of_one_label_are_named(tmp_path: Path) -> None:
    """Neither may be left out in silence."""
    for folder, names in (("images", ("a.jpg", "a.png", "b.png")), ("labels", ("a.png", "b.png"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    _, problems = pair_by_stem(tmp_path / "images", tmp_path / "labels", "train")
    assert problems == [f"{tmp_path / 'images/a.png'}: its label is that of a.jpg"]


def test_what_has_no_partner_is_listed_by_its_file() -> None:
    images = {key: Path(f"{key}.jpg") for key in "bac"}
    pairs = pair_by_key(images, {key: Path(f"{key}.png") for key in "ayx"})
    assert [(key, label and label.name) for key, _, label in pairs.found] == [
        ("b", None),
        ("a", "a.png"),
        ("c", None),
    ]
    lonely = ["x.png: no image", "y.png: no image"]
    assert pairs.problems("mask") == ["b.jpg: no mask", "c.jpg: no mask", *lonely]
    assert pairs.problems(required=False) == lonely


# What Python's `splitlines` and `split` take for ends of lines and names.
ODD_CHARACTERS = [
    "\u2028",
    "\u2029",
    "\x85",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1e",
    "\u3000",
    "'",
    '"',
    "\\",
]


@pytest.mark.parametrize("mark", ODD_CHARACTERS)
@pytest.mark.parametrize("place", ["x{}y", "{}x", "x{}"])
def test_odd_characters_in_names_read_back(tmp_path: Path, mark: str, place: str) -> None:
    name = place.format(mark)
    images = [_image(tmp_path / folder / f"{name}.png") for folder in ("i", "l")]
    samples = [Sample(images[0], images[1], name), Sample(images[1], None, name)]
    write_sample_list(samples, tmp_path / "x.list")
    read = read_sample_list(tmp_path / "x.list")
    assert [(s.image, s.label) for s in read] == [(s.image, s.label) for s in samples]


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\tb", " a", "a.png "])
def test_a_name_that_no_list_holds_is_refused(tmp_path: Path, name: str) -> None:
    image = tmp_path / name
    image.touch()
    with pytest.raises(UsageError, match="rename the file") as caught:
        write_sample_list([Sample(image, None, "a")], tmp_path / "x.list")
    assert "\n" not in str(caught.value) and not (tmp_path / "x.list").exists()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_names_the_encoding(tmp_path: Path, encoding: str, end: str) -> None:
    image, label = _image(tmp_path / "街.png"), _image(tmp_path / "l.png")
    mark = "\ufeff" if encoding.endswith(("le", "be")) else ""
    listed = tmp_path / "x.list"
    listed.write_bytes(f"{mark}街.png l.png{end}街.png l.png{end}".encode(encoding))
    assert [(s.image, s.label) for s in read_sample_list(listed)] == [(image, label)] * 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a.png\0 l.png\n", "line 1: a NUL byte at character 6"),
        (b"a.png\nb.png \0l.png\n", "line 2: a NUL byte at character 7"),
        ("a.png\n".encode("utf-16-le"), "UTF-16 without byte order mark"),
        (b"\xff\xfea\0b", "begins as UTF-16, and is none at byte"),
        ("a.png\n街.png l.png\n".encode("gbk"), r"line 2: not UTF-8 at byte 1 \(0xbd\)"),
        ("a.png\nstraße.png\n".encode("latin-1"), r"line 2: not UTF-8 at byte 5 \(0xdf\)"),
        (b"a.png\n" + b"x" * 5000 + b" a.png b.png\n", "line 2: expected 'image label'"),
    ],
)
def test_what_is_no_list_in_utf8_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    _image(tmp_path / "a.png")
    (tmp_path / "x.list").write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        read_sample_list(tmp_path / "x.list")
    assert str(tmp_path / "x.list") in str(caught.value)


def test_names_that_are_not_utf8_on_the_disk_are_read_and_written(tmp_path: Path) -> None:
    """A disk of an older system has such names; they are bytes to Linux."""
    image = tmp_path / os.fsdecode(b"\xbd\xd6.png")
    image.write_bytes(_image(tmp_path / "a.png").read_bytes())
    (tmp_path / "x.list").write_bytes(b"\xbd\xd6.png a.png\n")
    (sample,) = read_sample_list(tmp_path / "x.list")
    assert (sample.image, sample.label) == (image, tmp_path / "a.png")
    write_sample_list([sample], tmp_path / "y.list")
    assert (tmp_path / "y.list").read_bytes() == (tmp_path / "x.list").read_bytes()


@pytest.mark.parametrize("length", [246, 300, 5000])
def test_a_name_too_long_for_a_disk_is_left_to_the_run(tmp_path: Path, length: int) -> None:
    (tmp_path / "x.list").write_text("x" * length + ".png\n")
    (sample,) = read_sample_list(tmp_path / "x.list")
    assert len(sample.image.name) == length + 4


def test_backslashes_are_read_as_windows_means_them(tmp_path: Path, capsys) -> None:
    image, label = _image(tmp_path / "im/a.png"), _image(tmp_path / "la/b/a.png")
    listed = tmp_path / "x.list"
    listed.write_text("im\\a.png la\\b/a.png\n")
    (sample,) = read_sample_list(listed)
    assert (sample.image, sample.label) == (image, label)
    listed.write_text("im\\no.png la\\b\\no.png\nim\\no2.png\n")
    with pytest.raises(UsageError, match=r"3 names are paths of Windows, such as im\\no\.png: wri"):
        read_sample_list(listed)
    listed.write_text("C:\\data\\a.png\nD:/data/b.png\n")
    with pytest.raises(UsageError, match="2 names are paths of Windows"):
        read_sample_list(listed)
    listed.write_text("im/a.png\nim\\no.png\n")
    assert len(read_sample_list(listed)) == 2
    assert "1 names are paths of Windows" in capsys.readouterr().out


def test_a_folder_says_what_it_leaves_out(tmp_path: Path, capsys) -> None:
    _image(tmp_path / "a.png")
    for name in ("b.JFIF", "c.gif", "sub/d.gif", "IMG.HEIC", "README", ".DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    assert [s.name for s in collect_samples(tmp_path)] == ["a"]
    said = capsys.readouterr().out
    counts = ".gif 2, .heic 1, .jfif 1, .png 1, without suffix 2"
    assert f"7 other files left out ({counts}): IMG.HEIC, README, b.JFIF, ..." in said
    for name in ("b.JFIF", "c.gif", "sub/d.gif", "IMG.HEIC", "README", "pipe.png", "linked"):
        (tmp_path / name).unlink()
    collect_samples(tmp_path)
    assert "left out" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["PNG", "tif", "TIFF", "bmp", "gif", "WebP", "pgm"])
def test_labels_are_paired_whatever_their_suffix(tmp_path: Path, suffix: str) -> None:
    for name in ("i/a.jpg", f"l/a.{suffix}", "i/city/b.JPG", f"l/city/b.{suffix}"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    samples, problems = pair_by_stem(tmp_path / "i", tmp_path / "l", "all")
    assert not problems
    assert [(s.name, s.label and s.label.name) for s in samples] == [
        ("all/a", f"a.{suffix}"),
        ("all/city/b", f"b.{suffix}"),
    ]


def test_what_an_index_cannot_pair_is_named(tmp_path: Path, capsys) -> None:
    names = "i/a.jpg", "l/a.png", "l/a.tif", "i/x/b.jpg", "l/y/b.png", "i/c.txt", "l/d.json"
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    _, problems = pair_by_stem(tmp_path / "i", tmp_path / "l", "all")
    assert problems == [
        f"{tmp_path}/i/x/b.jpg: no label",
        f"{tmp_path}/l/a.tif: a second label of one image, beside a.png",
        f"{tmp_path}/l/y/b.png: no image",
    ]
    said = capsys.readouterr().out
    assert "i: 1 other files left out (.txt 1): c.txt" in said
    assert "l: 1 other files left out (.json 1): d.json" in said


@pytest.mark.parametrize("labels", [".", "masks", "images"])
def test_labels_with_an_ending_behind_the_name(tmp_path: Path, labels: str) -> None:
    """In the images' folder, in one below it, or in another one."""
    root = tmp_path if labels != "images" else tmp_path / "masks"
    images = tmp_path if labels != "images" else tmp_path / "images"
    folder = root / labels if labels != "images" else root
    for path in (images / "f0.png", images / "f1.jpg", folder / "f0_mask.png"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (folder / "f1_mask.tif").touch()
    samples, problems = pair_by_stem(images, folder, "all", "_mask")
    assert not problems
    paired = [(s.image.name, s.label and s.label.name) for s in samples]
    assert paired == [("f0.png", "f0_mask.png"), ("f1.jpg", "f1_mask.tif")]
