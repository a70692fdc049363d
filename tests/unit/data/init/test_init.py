"""`data init`: from folders to lists and a yml that loads, builds and trains as it stands."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from paddleseg_ext.commands import data as cli
from paddleseg_ext.common.errors import MissingData, UsageError
from paddleseg_ext.config import load_config
from paddleseg_ext.data.build import build_dataset
from paddleseg_ext.data.init.recipe import NETWORKS, class_weights
from paddleseg_ext.data.init.start import InitOptions, init
from paddleseg_ext.images.samples import read_sample_list

WIDTH, HEIGHT = 96, 64
NAMES = [f"{clip}_{number}" for clip in "abc" for number in range(4)]


def image(path: Path, value: int = 0, size_wh: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size_wh[1], size_wh[0], 3), 90 + value, np.uint8)
    Image.fromarray(pixels).save(path)


def label(
    path: Path, values: tuple[Any, ...] = (0, 1, 2), size_wh: tuple[int, int] = (WIDTH, HEIGHT)
) -> None:
    """Upright stripes of the values, or of colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = np.array(values, np.uint8)[np.arange(size_wh[0]) * len(values) // size_wh[0]]
    Image.fromarray(np.stack([stripes] * size_wh[1])).save(path)


def pairs(images: Path, labels: Path, ending: str = ".png", names: list[str] = NAMES) -> None:
    for number, name in enumerate(names):
        image(images / f"{name}.jpg", number)
        label(labels / f"{name}{ending}")


def plain(root: Path) -> None:
    pairs(root / "images", root / "masks")


def split_below(root: Path) -> None:
    for split, names in (("train", NAMES[:8]), ("valid", NAMES[8:])):
        pairs(root / "JPEGImages" / split, root / "SegmentationClass" / split, names=names)


def split_above(root: Path) -> None:
    for split, names in (("train", NAMES[:8]), ("val", NAMES[8:])):
        pairs(root / split / "images", root / split / "labels", names=names)


def subfolders(root: Path) -> None:
    for clip in "abc":
        names = [name for name in NAMES if name[0] == clip]
        pairs(root / "img" / clip, root / "gt" / clip, names=names)


def beside(root: Path) -> None:
    pairs(root, root, "_mask.png")


def beside_by_split(root: Path) -> None:
    for split, names in (("train", NAMES[:8]), ("valid", NAMES[8:])):
        pairs(root / split, root / split, "_mask.png", names)


def other_ending(root: Path) -> None:
    pairs(root / "images", root / "labels", "_labelTrainIds.png")


LAYOUTS: dict[str, tuple[Callable[[Path], None], bool]] = {
    each.__name__: (each, own)
    for each, own in (
        (plain, False),
        (split_below, True),
        (split_above, True),
        (subfolders, False),
        (beside, False),
        (beside_by_split, True),
        (other_ending, False),
    )
}


def lists(folder: Path) -> dict[str, list[str]]:
    """Stems of the images by list; every label is that of its image."""
    result = {}
    for path in sorted(folder.glob("*.list")):
        samples = read_sample_list(path)
        for sample in samples:
            assert sample.label is not None and sample.label.stem.startswith(sample.image.stem)
        result[path.stem] = sorted(sample.image.stem for sample in samples)
    return result


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, tmp_path: Path) -> None:
    make, own = LAYOUTS[layout]
    make(tmp_path / "from")
    before = sorted(tmp_path.rglob("*"))
    path = init(tmp_path / "from", tmp_path / "to", InitOptions())
    found = lists(tmp_path / "to")
    assert sorted(found["train"] + found["val"]) == NAMES
    if own:
        assert found == {"train": NAMES[:8], "val": NAMES[8:]}
    else:
        assert 1 <= len(found["val"]) < 6
    assert [each for each in sorted((tmp_path / "from").rglob("*")) if each not in before] == []
    config = load_config(path)
    for section in ("train_dataset", "val_dataset"):
        dataset = build_dataset(config, section)
        assert dataset.class_table.class_names == ("class_0", "class_1", "class_2")
        assert set(np.unique(dataset[0]["label"])) <= {0, 1, 2, 255}
    assert config.lr_scheduler["warmup_iters"] < config.iters
    init(tmp_path / "from", tmp_path / "to", InitOptions())  # again: the same
    assert lists(tmp_path / "to") == found


def test_what_exists_is_not_replaced_by_another(tmp_path: Path) -> None:
    split_above(tmp_path / "from")
    path = init(tmp_path / "from", tmp_path / "to", InitOptions())
    path.write_text(text := path.read_text() + "# edited\n")
    with pytest.raises(UsageError, match=r"bisenetv2.yml: exists .*--overwrite"):
        init(tmp_path / "from", tmp_path / "to", InitOptions())
    own = lists(tmp_path / "to")
    with pytest.raises(UsageError, match=r"train.list, .*val.list: exists"):
        init(tmp_path / "from", tmp_path / "to", InitOptions(network="stdc1", val_share=0.5))
    assert path.read_text() == text and lists(tmp_path / "to") == own
    init(tmp_path / "from", tmp_path / "to", InitOptions(val_share=0.5, overwrite=True))
    assert path.read_text() != text and lists(tmp_path / "to") != own


@pytest.mark.parametrize("name", [f"{'a' * 60} {'b' * 60}", "a: 'b' #c", "数据 集"])
def test_the_yml_in_a_folder_of_any_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain(tmp_path / "from")
    path = init(tmp_path / "from", tmp_path / name, InitOptions())
    assert load_config(path).train_dataset["dataset_root"] == str(tmp_path / name)
    told = f"paddleseg-ext train --config {shlex.quote(str(path))} --do_eval"
    assert told in capsys.readouterr().out
    assert told in path.read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be printed"):
        init(tmp_path / "from", tmp_path / f"{name}\n", InitOptions())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_or_all_for_validation(share: float, tmp_path: Path) -> None:
    split_above(tmp_path / "from")
    path = init(tmp_path / "from", tmp_path / "to", InitOptions(val_share=share))
    assert lists(tmp_path / "to") == {"val" if share else "train": NAMES}
    config = load_config(path)
    assert len(build_dataset(config, "val_dataset")) == len(NAMES)
    assert ("train_dataset" in config.raw) == (share == 0)
    assert ("paddleseg-ext train" in path.read_text()) == (share == 0)
    if not share:
        assert "No image is left for validation" in path.read_text()


def test_sequences_stay_together(tmp_path: Path) -> None:
    plain(tmp_path / "from")
    options = InitOptions(split_by="sequence", val_share=0.3)
    init(tmp_path / "from", tmp_path / "to", options)
    found = lists(tmp_path / "to")
    clips = {split: {name[0] for name in names} for split, names in found.items()}
    assert not clips["train"] & clips["val"] and len(clips["val"]) >= 1


def test_names_that_look_like_frames_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"f{number}" for number in range(12)]
    pairs(tmp_path / "from/images", tmp_path / "from/labels", names=names)
    init(tmp_path / "from", tmp_path / "to", InitOptions())
    assert "--split_by sequence" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ((0, 255), None, {"names": ["background", "object"], "mapping": {0: "background"}}),
        ((0, 255), ["ok", "crack"], {"names": ["ok", "crack"], "mapping": {255: "crack"}}),
        ((1, 2, 255), None, {"names": ["class_1", "class_2"], "mapping": {1: "class_1"}}),
        ((1, 2, 3), ["a", "b", "c"], {"names": ["a", "b", "c"], "mapping": {1: "a"}}),
        (
            (0, 7, 26),
            None,
            {"names": ["class_0", "class_7", "class_26"], "mapping": {7: "class_7"}},
        ),
        ((0, 1, 255), ["a", "b"], {"names": ["a", "b"]}),
        ((0, 1), ["a", "b", "c"], {"names": ["a", "b", "c"]}),
        (
            ((0, 0, 0), (250, 50, 83)),
            ["bg", "cat"],
            {"names": ["bg", "cat"], "mapping": {"250,50,83": "cat"}},
        ),
    ],
    ids=str,
)
def test_classes_from_what_the_labels_hold(
    values: tuple, names: list[str] | None, expected: dict, tmp_path: Path
) -> None:
    for number in range(3):
        image(tmp_path / f"from/images/{number}.png", number)
        label(tmp_path / f"from/labels/{number}.png", values)
    path = init(tmp_path / "from", tmp_path / "to", InitOptions(names=names))
    section = yaml.safe_load(path.read_text())["classes"]
    assert section["names"] == expected["names"]
    assert ("mapping" in section) == ("mapping" in expected)
    assert expected.get("mapping", {}).items() <= section.get("mapping", {}).items()
    dataset = build_dataset(load_config(path), "val_dataset")
    ignored = 255 in values and 255 not in section.get("mapping", {})
    assert (255 in dataset[0]["label"]) == ignored
    assert len(np.unique(dataset[0]["label"])) == len(values)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.yml", "classes: {names: [a, b, c], palette: [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}"),
        ("_classes.csv", "Pixel Value, Class\n0, a\n1, b\n2, c\n"),
    ],
)
def test_classes_of_a_tools_table(name: str, text: str, tmp_path: Path) -> None:
    plain(tmp_path / "from")
    (tmp_path / "from" / name).write_text(text)
    path = init(tmp_path / "from", tmp_path / "to", InitOptions())
    shutil.move(tmp_path / "from" / name, tmp_path / name)  # the yml is complete by itself
    dataset = build_dataset(load_config(path), "train_dataset")
    assert dataset.class_table.class_names == ("a", "b", "c")
    with pytest.raises(UsageError, match="--names"):
        options = InitOptions(classes=tmp_path / name, names=["x", "y", "z"])
        init(tmp_path / "from", tmp_path / "to", options)


def test_a_value_of_unknown_objects_is_kept(tmp_path: Path) -> None:
    plain(tmp_path / "from")
    label(tmp_path / "from/masks" / f"{NAMES[0]}.png", (0, 1, 2, 254))
    text = "classes: {names: [a, b, c], mapping: {0: a, 1: b, 2: c}, unknown: 254}"
    (tmp_path / "from/classes.yml").write_text(text)
    path = init(tmp_path / "from", tmp_path / "to", InitOptions())
    dataset = build_dataset(load_config(path), "train_dataset")
    assert dataset.class_table.unknown == 254


def test_a_person_is_asked_for_names(tmp_path: Path) -> None:
    plain(tmp_path / "from")
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return "sky, road,car" if len(asked) == 1 else ""

    path = init(tmp_path / "from", tmp_path / "to", InitOptions(), ask)
    assert yaml.safe_load(path.read_text())["classes"]["names"] == ["sky", "road", "car"]
    assert "3 classes" in asked[0] and "class_2" in asked[0]
    path = init(tmp_path / "from", tmp_path / "to", InitOptions(overwrite=True), ask)
    assert yaml.safe_load(path.read_text())["classes"]["names"][0] == "class_0"


def test_weights_are_suggested_where_a_class_is_rare(tmp_path: Path) -> None:
    for number in range(3):
        image(tmp_path / f"from/images/{number}.png", number, (640, 320))
        label(tmp_path / f"from/labels/{number}.png", (*[0] * 150, 1), (640, 320))
    options = InitOptions(network="bisenetv1", names=["road", "pole", "never"], iters=40)
    text = init(tmp_path / "from", tmp_path / "to", options).read_text()
    assert "weight: [" in text and "OhemCrossEntropyLoss" in text and "never never" in text
    assert "crop_size: [640, 320]" in text and "iters: 40\n" in text and "warmup_iters: 2\n" in text
    weights = class_weights(np.array([990, 5, 0, 5]))
    assert weights is not None and weights[2] == 1.0 and weights[1] > 10 * weights[0]
    shares = np.array([0.99, 0.005, 0, 0.005])
    assert (np.array(weights) * shares).sum() == pytest.approx(1, abs=1e-3)
    assert class_weights(np.array([50, 50, 0])) is None


@pytest.mark.parametrize("varied", [False, True])
def test_large_images_are_read_smaller(varied: bool, tmp_path: Path) -> None:
    for number in range(2):
        size = (4096, 2048 - 64 * number * varied)
        image(tmp_path / f"from/images/{number}.png", number, size)
        label(tmp_path / f"from/labels/{number}.png", size_wh=size)
    path = init(tmp_path / "from", tmp_path / "to", InitOptions(val_share=0))
    transforms = yaml.safe_load(path.read_text())["val_dataset"]["transforms"]
    size = {"type": "Resize", "target_size": [2048, 1024]}
    assert transforms[0] == ({"type": "LimitLong", "max_long": 2048} if varied else size)
    crop = yaml.safe_load(path.read_text())["train_dataset"]["transforms"][2]["crop_size"]
    assert crop == [1024, 512] or varied


def test_labels_of_turned_pictures(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(3):
        image(tmp_path / f"from/images/{number}.png", number)
        stored = Image.open(tmp_path / f"from/images/{number}.png").copy()
        stored.save(tmp_path / f"from/images/{number}.png", exif=exif)
        label(tmp_path / f"from/labels/{number}.png", size_wh=(HEIGHT, WIDTH))
    path = init(tmp_path / "from", tmp_path / "to", InitOptions())
    config = load_config(path)
    assert config.orientation == "upright" and "3 images" not in path.read_text().split("\n")[0]
    assert build_dataset(config, "val_dataset")[0]["label"].shape == (WIDTH, HEIGHT)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_has_a_recipe(network: str, tmp_path: Path) -> None:
    plain(tmp_path / "from")
    path = init(tmp_path / "from", tmp_path / "to", InitOptions(network=network))
    config = load_config(path)
    assert path.name == f"{network}.yml" and "min_kept" not in path.read_text()
    assert config.loss["coef"] and "num_classes" not in config.model


def _unclear(root: Path) -> None:
    """Two kinds of masks of every image, and nothing that says which is meant."""
    pairs(root, root, "_mask.png", NAMES[:3])
    pairs(root, root, "_color.png", NAMES[:3])


def _smoothed(root: Path) -> None:
    plain(root)
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(root / "masks" / f"{NAMES[0]}.png")


def _misshapen(root: Path) -> None:
    plain(root)
    label(root / "masks" / f"{NAMES[0]}.png", size_wh=(10, 10))


def _damaged(root: Path) -> None:
    plain(root)
    (root / "masks" / f"{NAMES[0]}.png").write_bytes(b"no image")


def _no_labels(root: Path) -> None:
    for name in NAMES:
        image(root / "images" / f"{name}.jpg")


def _jpeg(root: Path) -> None:
    pairs(root / "images", root / "labels", ".jpg")


def _all_ignored(root: Path) -> None:
    plain(root)
    for path in (root / "masks").iterdir():
        label(path, (255,))


def _grey_images(root: Path) -> None:
    plain(root)
    label(root / "masks" / f"{NAMES[0]}.png", tuple(range(256)), (256, 2))
    image(root / "images" / f"{NAMES[0]}.jpg", 0, (256, 2))


def _nothing(root: Path) -> None:
    (root / "images").mkdir(parents=True)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (_jpeg, {}, "JPEG changes them at every edge; export the labels as PNG"),
        (_all_ignored, {}, "the value 255 only, which is ignored: --classes"),
        (_nothing, {}, "from/?' holds no image"),
        (_unclear, {}, "which files are labels.*--label_suffix"),
        (_smoothed, {}, "more than 64 colours"),
        (_grey_images, {}, "255 values, more than the 254 classes.*are they images"),
        (_misshapen, {}, "1 files cannot be used"),
        (_damaged, {}, "1 labels cannot be used"),
        (_no_labels, {}, "which files are labels|has a label of the same name"),
        (plain, {"label_suffix": "_gt.png"}, "no file ends in '_gt.png'"),
        (plain, {"images": "absent"}, "absent' is not a folder"),
        (plain, {"names": ["a", "b"]}, "the labels hold 3 values, got 2 names"),
        (plain, {"names": ["a", "a", "b"]}, "different names"),
        (plain, {"network": "bisenetv3"}, "the nearest is 'bisenetv"),
        (plain, {"val_share": 2.0}, "0 to 1 expected"),
    ],
)
def test_what_is_not_clear_is_one_line_and_nothing_written(
    make: Callable[[Path], None], options: dict, message: str, tmp_path: Path
) -> None:
    make(tmp_path / "from")
    with pytest.raises(UsageError, match=f"(?s){message}"):
        init(tmp_path / "from", tmp_path / "to", InitOptions(**options))
    assert not list((tmp_path / "to").glob("*"))


def test_files_without_partner_are_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain(tmp_path / "from")
    (tmp_path / f"from/masks/{NAMES[0]}.png").unlink()
    image(tmp_path / "from/masks/x.png")
    cli.main(["init", str(tmp_path / "from"), "--save_dir", str(tmp_path / "to"), "--names", "a",
              "b", "c", "--network", "stdc1"])  # fmt: skip
    assert "2 files without partner left out" in capsys.readouterr().out
    found = lists(tmp_path / "to")
    assert len(found["train"]) + len(found["val"]) == len(NAMES) - 1
    with pytest.raises(MissingData, match="not a folder"):
        init(tmp_path / "absent", tmp_path / "to", InitOptions())


def test_suffixes_of_cityscapes(tiny_cityscapes: Path, tmp_path: Path) -> None:
    """Names that differ behind a common part, in a layout with splits and cities."""
    options = InitOptions(
        image_suffix="_leftImg8bit.png", label_suffix="_gtFine_labelTrainIds.png", network="stdc1"
    )
    path = init(tiny_cityscapes, tmp_path / "to", options)
    config = load_config(path)
    assert len(build_dataset(config, "train_dataset")) > len(build_dataset(config, "val_dataset"))
