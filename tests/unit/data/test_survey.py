"""The survey's numbers, its page, and the commands around data."""

import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.commands import data as cli
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.data.contact_sheet import to_picture
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.data.parts import Part
from paddleseg_ext.data.survey import same_content, survey, survey_lines
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.samples import Sample, read_sample_list

YML = """
batch_size: 1
iters: 1
train_dataset:
  type: Cityscapes
  dataset_root: {root}
  transforms:
    - type: RandomPaddingCrop
      crop_size: [80, 100]
    - type: Normalize
      mean: [0.3, 0.4, 0.5]
      std: [0.2, 0.3, 0.1]
val_dataset:
  type: Cityscapes
  dataset_root: {root}
  mode: val
"""


def _config(tmp_path: Path, root: Path) -> str:
    (tmp_path / "c.yml").write_text(YML.format(root=root))
    return str(tmp_path / "c.yml")


def _samples(folder: Path) -> list[Sample]:
    """Two images of different sizes; classes 0 and 2 of three, a quarter of one ignored."""
    generator = np.random.default_rng(0)
    samples = []
    for name, (height, width), values in (("a", (4, 6), (0, 2)), ("b", (8, 2), (0, 0))):
        image = generator.integers(0, 256, (height, width, 3), np.uint8)
        label = np.full((height, width), values[0], np.uint8)
        label[: height // 2] = values[1]
        if name == "b":
            label[:2] = 255
        cv2.imwrite(str(folder / f"{name}.png"), image)
        cv2.imwrite(str(folder / f"{name}_label.png"), label)
        samples.append(Sample(folder / f"{name}.png", folder / f"{name}_label.png", name))
    return samples


def test_the_numbers(tmp_path: Path) -> None:
    samples = _samples(tmp_path)
    result = survey(Part("some", samples, generic_table(3)))
    assert result.sizes == {"6x4": 1, "2x8": 1}
    assert result.modes == {"RGB": 2}
    assert result.class_pixels.tolist() == [12 + 12, 0, 12]
    assert result.class_images.tolist() == [2, 0, 1]
    assert result.ignored_pixels == 4
    pixels = np.concatenate(
        [cv2.imread(str(s.image))[:, :, ::-1].reshape(-1, 3) for s in samples]
    ).astype(float)
    np.testing.assert_allclose(result.mean, pixels.mean(0) / 255)
    np.testing.assert_allclose(result.std, pixels.std(0) / 255)
    text = "\n".join(survey_lines(result))
    assert "never occurs" in text
    assert "6x4 (1)" in text
    result.sizes = Counter({f"{side}x1": 1 for side in range(1, 12)})
    assert "8x1 (1), other (3)" in survey_lines(result)[1]


def test_equal_images_are_found(tmp_path: Path) -> None:
    samples = _samples(tmp_path)
    shutil.copy(samples[0].image, tmp_path / "again.png")
    again = Sample(tmp_path / "again.png", None, "again")
    result = survey(Part("some", [*samples, again], generic_table(3)))
    assert result.duplicates == [["some: a", "some: again"]]
    other = survey(Part("other", [again], generic_table(3)))
    first = survey(Part("some", samples, generic_table(3)))
    assert same_content([first, other]) == [["some: a", "other: again"]]


def test_an_image_whose_comment_pillow_refuses(tmp_path: Path) -> None:
    sample = _samples(tmp_path)[0]
    content = sample.image.read_bytes()
    comment = b"\0\0\0\5tEXta\0bcd\0\0\0\0"  # its checksum is wrong
    sample.image.write_bytes(content[:33] + comment + content[33:])  # 33: behind the header
    result = survey(Part("some", [sample], generic_table(3)))
    assert (result.images, dict(result.modes), result.problems) == (1, {"RGB": 1}, [])


def test_what_cannot_be_used_is_listed_and_not_counted(tmp_path: Path) -> None:
    samples = _samples(tmp_path)
    samples[1].image.write_bytes(b"")
    result = survey(Part("some", samples, generic_table(3)))
    assert (result.images, len(result.problems)) == (1, 1)
    assert result.problems[0].startswith(str(samples[1].image))


def test_the_page(tiny_cityscapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    damaged = Cityscapes(str(tiny_cityscapes)).samples[2].image
    damaged.write_bytes(b"<script>")
    page = tmp_path / "page.html"
    with pytest.raises(UsageError, match="1 files"):
        cli.main(["check", "--dataset_root", str(tiny_cityscapes), "--html", str(page)])
    text = page.read_text()
    assert damaged.name in text
    assert text.count("data:image/jpeg") == 7  # of 5 training and 2 validation images
    assert "http" not in text.replace("http://www.w3.org", "")
    assert "vegetation" in capsys.readouterr().out


def test_the_page_takes_the_place_of_no_image(tiny_cityscapes: Path) -> None:
    image = Cityscapes(str(tiny_cityscapes)).samples[0].image
    before = image.read_bytes()
    with pytest.raises(UsageError, match=r"--html: a name that ends in \.html is expected"):
        cli.main(["check", "--dataset_root", str(tiny_cityscapes), "--html", str(image)])
    assert image.read_bytes() == before


def test_index_of_a_config(tiny_cityscapes: Path, tmp_path: Path) -> None:
    config = _config(tmp_path, tiny_cityscapes)
    cli.main(["index", "--config", config, "--save_dir", str(tmp_path / "lists")])
    listed = read_sample_list(tmp_path / "lists" / "train.list")
    dataset = Cityscapes(str(tiny_cityscapes))
    assert [s.label and s.label.resolve() for s in listed] == [s.label for s in dataset.samples]
    assert len(read_sample_list(tmp_path / "lists" / "val.list")) == 2


def test_index_of_any_folders(tiny_cityscapes: Path, tmp_path: Path) -> None:
    for sample in Cityscapes(str(tiny_cityscapes)).samples:
        for kind, file in (("images", sample.image), ("labels", sample.label)):
            (tmp_path / kind).mkdir(exist_ok=True)
            shutil.copy(str(file), tmp_path / kind / f"{sample.image.stem}.png")
    flags = ["index", "--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels")]
    flags += ["--val_share", "0.34", "--save_dir", str(tmp_path / "lists")]
    cli.main(flags)
    train, val = (read_sample_list(tmp_path / f"lists/{name}.list") for name in ("train", "val"))
    assert (len(train), len(val)) == (4, 2)
    assert not {s.image.name for s in train} & {s.image.name for s in val}
    next((tmp_path / "labels").iterdir()).unlink()
    with pytest.raises(UsageError, match="1 files without"):
        cli.main(flags)
    with pytest.raises(UsageError, match=r"^--images: 'absent' .*is not a folder"):
        cli.main([flag if flag != str(tmp_path / "images") else "absent" for flag in flags])
    with pytest.raises(UsageError, match="go together"):
        cli.main(["index", "--images", "x", "--save_dir", str(tmp_path)])


def test_browse_writes_what_the_network_sees(tiny_cityscapes: Path, tmp_path: Path) -> None:
    config = _config(tmp_path, tiny_cityscapes)
    sheets = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.png"
        cli.main(["browse", "--config", config, "--count", "3", "--save_path", str(path)])
        sheets.append(path.read_bytes())
    assert sheets[0] == sheets[1]
    sheet = cv2.imread(str(tmp_path / "one.png"))
    # two rows of two cells, each an image 80x100 and its label, 360 wide; below them the legend
    rows = 2 * (450 + 4)
    assert sheet.shape[1:] == (2 * (720 + 4), 3) and rows < sheet.shape[0] < rows + 100


def test_normalize_is_undone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 5), np.uint8)
    mean, std = [0.3, 0.4, 0.5], [0.2, 0.3, 0.1]
    column = np.array([mean, std], np.float32)[:, :, None, None]
    normalized = (image / np.float32(255) - column[0]) / column[1]
    specs = [{"type": "Resize"}, {"type": "Normalize", "mean": mean, "std": std}]
    np.testing.assert_array_equal(to_picture(normalized, specs), image.transpose(1, 2, 0))
