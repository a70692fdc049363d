"""From yml sections to data sets, ours and PaddleSeg's."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from paddleseg_ext.common.errors import MissingData, UsageError
from paddleseg_ext.config import load_config
from paddleseg_ext.data.build import build_dataset, class_table_of, validation_data
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.images.labels import CITYSCAPES_RAW_IDS, decode_label

YML = """
batch_size: 2
iters: 2
{extra}
train_dataset:
  type: {type}
  dataset_root: {root}
  mode: train
  transforms:
    - type: RandomPaddingCrop
      crop_size: [48, 32]
    - type: {other}
    - type: Normalize
val_dataset:
  type: {type}
  dataset_root: {root}
  mode: val
  transforms:
    - type: Normalize
"""


def _config(tmp_path: Path, root: Path, **values: str):  # type: ignore[no-untyped-def]
    path = tmp_path / "config.yml"
    defaults = {"type": "Cityscapes", "other": "RandomBlur", "extra": ""}
    path.write_text(YML.format(root=root, **{**defaults, **values}))
    return load_config(path)


def test_ours_with_a_transform_of_paddleseg(tmp_path: Path, tiny_cityscapes_shared: Path) -> None:
    config = _config(tmp_path, tiny_cityscapes_shared)
    dataset = build_dataset(config, "train_dataset")
    assert isinstance(dataset, Cityscapes)
    assert dataset[0]["img"].shape == (3, 32, 48)
    assert [spec["type"] for spec in dataset.transform_specs][1] == "RandomBlur"
    assert class_table_of(config).num_classes == 19
    assert (
        validation_data(config).first_image == build_dataset(config, "val_dataset").samples[0].image
    )


def test_paddlesegs_data_set_has_what_ours_has(
    tmp_path: Path, tiny_cityscapes_shared: Path
) -> None:
    config = _config(tmp_path, tiny_cityscapes_shared, extra="registry: paddleseg")
    dataset = build_dataset(config, "train_dataset")
    ours = Cityscapes(str(tiny_cityscapes_shared))
    assert [sample.label for sample in dataset.samples] == [s.label for s in ours.samples]
    assert (dataset.num_classes, dataset.ignore_index, len(dataset)) == (19, 255, 6)
    item = dataset[0]
    assert (item["img"].shape, item["img"].dtype) == ((3, 32, 48), np.float32)
    assert (item["label"].shape, item["label"].dtype) == ((32, 48), np.int64)


def test_paddlesegs_ade20k_is_scored_as_it_trains(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        for kind, value in (("images", 90), ("annotations", 150)):
            path = tmp_path / "ADEChallengeData2016" / kind / split / "a"
            path.parent.mkdir(parents=True)
            array = np.full((4, 6, 3) if kind == "images" else (4, 6), value, np.uint8)
            cv2.imwrite(str(path) + (".jpg" if kind == "images" else ".png"), array)
    config = _config(tmp_path, tmp_path / "ADEChallengeData2016", type="paddleseg.ADE20K")
    dataset = build_dataset(config, "val_dataset")
    label = dataset.samples[0].label
    assert label is not None
    assert (decode_label(label, dataset.class_table) == 149).all()
    assert (dataset[0]["label"] == 149).all()
    for section in ("train_dataset", "val_dataset"):  # at once, not at the first sample
        text = Path(config.path).read_text()
        (tmp_path / "c.yml").write_text(
            f"{text}\nclasses: {{mapping: {{wall: a, others: ignored}}}}"
        )
        with pytest.raises(UsageError, match=f"{section}: classes: PaddleSeg's ADE20K reads its"):
            build_dataset(load_config(tmp_path / "c.yml"), section)


def test_a_mode_that_is_no_word(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("train_dataset: {type: Cityscapes, dataset_root: x, mode: 5}")
    with pytest.raises(UsageError, match="mode: one of train"):
        build_dataset(load_config(tmp_path / "c.yml"), "train_dataset")


def test_a_misspelt_transform_is_named(tmp_path: Path, tiny_cityscapes_shared: Path) -> None:
    config = _config(tmp_path, tiny_cityscapes_shared, other="RandomHorizontalFlop")
    with pytest.raises(UsageError, match="RandomHorizontalFlip"):
        build_dataset(config, "train_dataset")


def test_the_class_table_needs_no_data(tmp_path: Path) -> None:
    config = _config(tmp_path, tmp_path / "absent")
    assert class_table_of(config).name == "cityscapes"
    assert validation_data(config).first_image is None
    with pytest.raises(MissingData, match="no Cityscapes in"):
        build_dataset(config, "train_dataset")


@pytest.mark.parametrize("root", ["absent", "empty"])
@pytest.mark.parametrize(
    ("spec", "num_classes"),
    [
        ("type: Cityscapes", 19),
        ("type: paddleseg.Cityscapes", 19),
        ("type: CamVid", 11),
        ("type: CelebAMaskHQ", 19),
        ("type: ListDataset\n  num_classes: 3\n  val_path: val.list", 3),
        ("type: Dataset\n  num_classes: 4\n  val_path: nowhere/val.list", 4),
    ],
)
def test_absent_files_are_missing_data_whatever_the_type(
    spec: str, num_classes: int, root: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    yml = tmp_path / "c.yml"
    yml.write_text(f"val_dataset:\n  {spec}\n  dataset_root: {tmp_path / root}\n  mode: val")
    config = load_config(yml)
    with pytest.raises(MissingData, match=r"^val_dataset: "):
        build_dataset(config, "val_dataset")
    data = validation_data(config)
    assert (data.class_table.num_classes, data.first_image) == (num_classes, None)


@pytest.mark.parametrize("root", ["dataset_root: typo/deep, ", "dataset_root: '', ", ""])
@pytest.mark.parametrize(
    ("type_name", "address"),
    [
        ("PascalVOC", "VOCtrainval_11-May-2012.tar"),
        ("OpticDiscSeg", "optic_disc_seg.zip"),
        ("MiniDeepGlobeRoadExtraction", "MiniDeepGlobeRoadExtraction.zip"),
        ("paddleseg.ADE20K", "ADEChallengeData2016.zip"),
        ("PPHumanSeg14K", "fetch its files by hand as .*contrib/PP-HumanSeg says"),
    ],
)
def test_data_of_paddleseg_that_is_absent_is_not_downloaded(
    type_name: str, address: str, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("requests.get", lambda *_, **__: pytest.fail("a download"))
    Path("c.yml").write_text(f"train_dataset: {{type: {type_name}, {root}mode: train}}")
    found = "no folder 'typo/deep'" if "typo" in root else "'dataset_root' is missing"
    with pytest.raises(MissingData, match=rf"^train_dataset: {type_name}: .*{found}.*{address}"):
        build_dataset(load_config("c.yml"), "train_dataset")
    assert [path.name for path in tmp_path.iterdir()] == ["c.yml"]


@pytest.mark.parametrize(
    ("type_name", "file", "address"),
    [
        ("PascalVOC", "VOC2012/ImageSets/Segmentation/train.txt", "VOCtrainval_11-May-2012.tar"),
        ("SUPERVISELY", "supervisely_face_train_easy.txt", "Supervisely_face.zip"),
        ("CocoStuff", "not Found", "nightrome/cocostuff"),
        ("PascalContext", "annotations are not ready", "roozbeh/pascal-context"),
    ],
)
def test_files_of_paddlesegs_data_sets_that_are_absent_are_named_with_their_place(
    type_name: str, file: str, address: str, tmp_path: Path
) -> None:
    spec = {"type": type_name, "dataset_root": str(tmp_path), "mode": "train"}
    if type_name == "SUPERVISELY":
        spec |= {key: [] for key in ("common_transforms", "transforms1", "transforms2")}
    else:
        spec["transforms"] = [{"type": "Normalize"}]
    (tmp_path / "c.yml").write_text(yaml.safe_dump({"train_dataset": spec}))
    with pytest.raises(MissingData, match=rf"^train_dataset: .*{file}.*{address}.*downloaded here"):
        build_dataset(load_config(tmp_path / "c.yml"), "train_dataset")


@pytest.mark.parametrize(
    ("type_name", "places", "person"),
    [
        ("EG1800", ("Images", "Labels", "eg1800_test.txt", "a.png"), {1}),
        (
            "SUPERVISELY",
            ("x/img", "x/ann", "supervisely_face_test_easy.txt", "y/x/img/a.png"),
            {1, 7, 255},
        ),
    ],
)
def test_portraits_are_scored_and_read_as_they_train(
    type_name: str, places: tuple[str, ...], person: set[int], tmp_path: Path
) -> None:
    images, labels, name, line = places
    values = np.repeat(np.array([0, 1, 7, 255], np.uint8), 56)
    stored = np.zeros((224, 224, 3), np.uint8)
    stored[:112] = 200
    for folder in (images, labels):
        (tmp_path / folder).mkdir(parents=True)
    turned = Image.Exif()
    turned[0x0112] = 3
    Image.fromarray(stored).save(tmp_path / images / "a.png", exif=turned)
    cv2.imwrite(str(tmp_path / labels / "a.png"), np.tile(values, (224, 1)))
    (tmp_path / name).write_text(f"{line}\n")
    spec = {"type": type_name, "dataset_root": str(tmp_path), "mode": "val"}
    spec |= {"common_transforms": [{"type": "Normalize"}], "transforms1": [], "transforms2": []}
    (tmp_path / "c.yml").write_text(yaml.safe_dump({"val_dataset": spec}))
    dataset = build_dataset(load_config(tmp_path / "c.yml"), "val_dataset")
    label = decode_label(dataset.samples[0].label, dataset.class_table)
    assert set(values[label[0] == 1]) == person
    item = dataset[0]
    inner = np.abs(np.arange(224) % 56 - 28) < 20  # PaddleSeg blurs the label
    np.testing.assert_array_equal(item["label"][:, inner], label[:, inner])
    assert (item["img"][:, :112] > 0).all()  # as stored, not turned
    assert (item["img"][:, 112:] < 0).all()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{type: PascalVOC, dataset_root: 5}", "dataset_root: a path is expected, got 5"),
        ("{type: PascalVOC, dataset_rot: x}", "takes no 'dataset_rot' .did you mean"),
        (
            "{type: PSSLDataset, pssl_root: ., imagenet_root: ., transforms: [{type: "
            "RandomPaddingCrop, crop_size: [8, 8], label_padding_value: 1001}]}",
            "PSSLDataset has 1001 classes, .* at most 254: pretrain with PaddleSeg",
        ),
        ("{type: PascalVOC, dataset_root: ., mode: trainaug}", "voc_augment.py"),
        ("{type: OpticDiscSeg, dataset_root: .}", "list format incorrect"),
        ("{type: Dataset, img_channels: 4, dataset_root: .}", "1 .grey. or 3 .RGB. .*got 4"),
        ("{type: Dataset, img_channels: [1], dataset_root: .}", "1 .grey. or 3 .RGB. .*got"),
        ("{type: PascalVOC, dataset_root: ., edeg: true}", "takes no 'edeg' .did you mean 'edge'"),
        ("{type: ADE20K, dataset_root: ., label_kind: x}", "ADE20K takes no 'label_kind'"),
    ],
)
def test_sections_that_a_data_set_of_paddleseg_cannot_be_made_of(
    section: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train_list.txt").write_text("a b c\n")
    Path("c.yml").write_text(f"train_dataset: {section}")
    with pytest.raises(UsageError, match=message):
        build_dataset(load_config("c.yml"), "train_dataset")


def test_labels_that_are_elsewhere_are_missing_data(tiny_cityscapes: Path, tmp_path: Path) -> None:
    (tiny_cityscapes / "gtFine").rename(tmp_path / "labels")
    config = _config(tmp_path, tiny_cityscapes)
    with pytest.raises(MissingData, match="without their partner"):
        build_dataset(config, "val_dataset")
    assert class_table_of(config).num_classes == 19


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("label_knd: labelIds", "takes no 'label_knd' .did you mean 'label_kind'"),
        ("label_kind: labelId", "label_kind: one of"),
        ("mode: vall", "mode: one of"),
        ("transforms: [{type: Normalise}]", "did you mean 'Normalize'"),
    ],
)
@pytest.mark.parametrize("root", ["absent", "here"])
def test_a_wrong_section_is_an_error_with_and_without_the_data(
    wrong: str, message: str, root: str, tmp_path: Path, tiny_cityscapes_shared: Path
) -> None:
    where = tiny_cityscapes_shared if root == "here" else tmp_path / root
    mode = "" if wrong.startswith("mode") else "mode: val, "
    (tmp_path / "c.yml").write_text(
        f"val_dataset: {{type: Cityscapes, dataset_root: {where}, {mode}{wrong}}}"
    )
    config = load_config(tmp_path / "c.yml")
    for read in (class_table_of, validation_data):
        with pytest.raises(UsageError, match=message) as caught:
            read(config)
        assert not isinstance(caught.value, MissingData)


def test_without_data_labels_read_as_with_it(tmp_path: Path) -> None:
    """A bundle that is exported elsewhere scores label files by this table."""
    root = tmp_path / "own"
    spec = f"type: ListDataset\n  dataset_root: {root}\n  num_classes: 3\n  ignore_index: 0"
    yml = tmp_path / "c.yml"
    yml.write_text(f"val_dataset:\n  {spec}\n  mode: val\n  val_path: val.list")
    without = class_table_of(load_config(yml))
    root.mkdir()
    (root / "val.list").write_text("a.png b.png")
    assert without.to_dict() == class_table_of(load_config(yml)).to_dict()
    yml.write_text(f"val_dataset: {{type: paddleseg.ADE20K, dataset_root: {root}, mode: val}}")
    lookup = class_table_of(load_config(yml)).lookup_for("some.png")
    assert lookup is not None
    assert lookup[:3].tolist() == [255, 0, 1]


@pytest.mark.parametrize("spec", ["{type: 5}", "{type: ListDataset, num_classes: many}"])
def test_classes_that_nobody_can_know(spec: str, tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(f"val_dataset: {spec}")
    with pytest.raises(UsageError):
        class_table_of(load_config(tmp_path / "c.yml"))


def _faces(folder: Path, flip: str, **keys: object) -> Path:
    """A left class in the left half of the label; the flip mirrors every sample."""
    cv2.imwrite(str(folder / "a.png"), np.zeros((4, 8, 3), np.uint8))
    label = np.zeros((4, 8), np.uint8)
    label[:, :2], label[:, 6:] = 1, 2
    cv2.imwrite(str(folder / "l.png"), label)
    (folder / "train.txt").write_text("a.png l.png\n")
    section = {"type": "ListDataset", "dataset_root": str(folder), "num_classes": 3}
    section |= {"class_names": ["face", "l_eye", "r_eye"], "train_path": "train.txt"}
    section |= {"transforms": [{"type": flip, "prob": 1.0}, {"type": "Normalize"}]} | keys
    path = folder / "faces.yml"
    path.write_text(yaml.safe_dump({"train_dataset": section, "batch_size": 1}))
    return path


@pytest.mark.parametrize(("keys", "left"), [({}, 1), ({"left_right": []}, 2)])
def test_mirrored_faces_keep_left_at_the_left(
    keys: dict[str, object], left: int, tmp_path: Path
) -> None:
    path = _faces(tmp_path, "RandomHorizontalFlip", **keys)
    item = build_dataset(load_config(path), "train_dataset")[0]
    assert item["label"][0].tolist() == [left] * 2 + [0] * 4 + [3 - left] * 2


def test_a_flip_that_exchanges_nothing_is_refused_where_there_are_pairs(tmp_path: Path) -> None:
    path = _faces(tmp_path, "paddleseg.RandomHorizontalFlip")
    with pytest.raises(UsageError, match=r"train_dataset.transforms\[0\].*'l_eye' and 'r_eye'"):
        build_dataset(load_config(path), "train_dataset")
    path = _faces(tmp_path, "paddleseg.RandomHorizontalFlip", left_right=[])
    assert build_dataset(load_config(path), "train_dataset")[0]["label"][0, 0] == 2


def test_the_pairs_are_known_without_the_data(tmp_path: Path) -> None:
    text = "val_dataset: {type: CelebAMaskHQ, dataset_root: nowhere, mode: val%s}\n"
    for more, pairs in (("", ((2, 3), (4, 5), (7, 8))), (", left_right: []", ())):
        (tmp_path / "c.yml").write_text(text % more)
        assert class_table_of(load_config(tmp_path / "c.yml")).left_right == pairs


COLOURS = np.array([(128, 128, 128), (128, 64, 128), (64, 0, 128)], np.uint8)


def _coloured(folder: Path, kind: str, classes: object) -> Path:
    """Two colour masks in a list of a data set that is ours or PaddleSeg's."""
    for name in "ab":
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((4, 6, 3), np.uint8))
        colours = COLOURS[np.array([[0, 0, 1, 1, 2, 2]] * 4)]
        cv2.imwrite(str(folder / f"{name}_mask.png"), colours[:, :, ::-1])
    (folder / "all.txt").write_text("a.png a_mask.png\nb.png b_mask.png\n")
    (folder / "class_dict.csv").write_text(
        "name,r,g,b\nSky,128,128,128\nRoad,128,64,128\nCar,64,0,128\n"
    )
    section = {"type": kind, "dataset_root": str(folder), "classes": classes}
    section |= {"train_path": "all.txt" if kind == "ListDataset" else str(folder / "all.txt")}
    section |= {"val_path": section["train_path"], "transforms": [{"type": "Normalize"}]}
    both = {f"{mode}_dataset": section | {"mode": mode} for mode in ("train", "val")}
    (folder / "c.yml").write_text(yaml.safe_dump(both | {"batch_size": 1}))
    return folder / "c.yml"


@pytest.mark.parametrize("kind", ["ListDataset", "Dataset"])
def test_colour_masks_of_our_lists_and_paddlesegs(kind: str, tmp_path: Path) -> None:
    config = load_config(_coloured(tmp_path, kind, {"mapping": "class_dict.csv"}))
    for section in ("train_dataset", "val_dataset"):
        dataset = build_dataset(config, section)
        assert dataset.num_classes == 3 and dataset.ignore_index == 255
        assert dataset.class_table.class_names == ("Sky", "Road", "Car")
        assert dataset[1]["label"][0].tolist() == [0, 0, 1, 1, 2, 2]
        assert decode_label(dataset.samples[0].label, dataset.class_table)[0, 5] == 2
    assert class_table_of(config).class_names == ("Sky", "Road", "Car")


@pytest.mark.parametrize("kind", ["ListDataset", "Dataset"])
def test_classes_at_the_top_are_those_of_both_data_sets(kind: str, tmp_path: Path) -> None:
    path = _coloured(tmp_path, kind, None)
    content = yaml.safe_load(path.read_text())
    content["classes"] = {"mapping": {"file": "class_dict.csv", "Car": "Road", "others": 255}}
    content["val_dataset"]["classes"] = {"mapping": "class_dict.csv"}
    del content["train_dataset"]["classes"]
    path.write_text(yaml.safe_dump(content))
    config = load_config(path)
    names = [
        build_dataset(config, section).class_table.class_names
        for section in ("train_dataset", "val_dataset")
    ]
    assert names == [("Road",), ("Sky", "Road", "Car")]
    changed = load_config(path, ["classes.mapping.Sky=Sky", "val_dataset.classes=null"])
    assert class_table_of(changed).class_names == ("Road", "Sky")
    without = load_config(path, ["train_dataset.num_classes=2", "train_dataset.classes={}"])
    assert build_dataset(without, "train_dataset").class_table.class_names[0] == "class_0"


def test_ignored_values_of_both_kinds_of_cityscapes(tmp_path: Path, tiny_cityscapes: Path) -> None:
    ids = np.zeros(256, np.uint8)
    ids[:19] = CITYSCAPES_RAW_IDS
    for path in tiny_cityscapes.rglob("*_labelTrainIds.png"):
        name = path.name.replace("TrainIds", "Ids")
        cv2.imwrite(str(path.with_name(name)), cv2.LUT(cv2.imread(str(path), 0), ids))
    section = {"type": "Cityscapes", "dataset_root": str(tiny_cityscapes), "mode": "val"}
    labels = {}
    for kind, values in (("labelIds", [*CITYSCAPES_RAW_IDS[:5]]), ("labelTrainIds", [*range(5)])):
        spec = section | {"classes": {"ignored": values}, "label_kind": kind, "transforms": []}
        (tmp_path / "c.yml").write_text(yaml.safe_dump({"val_dataset": spec}))
        dataset = build_dataset(load_config(tmp_path / "c.yml"), "val_dataset")
        labels[kind] = dataset[0]["label"]
        assert dataset.num_classes == 19
        assert set(np.unique(labels[kind])) - set(range(5)) == set(np.unique(labels[kind]))
    np.testing.assert_array_equal(labels["labelIds"], labels["labelTrainIds"])
    assert set(np.unique(labels["labelIds"])) - {255}


def test_classes_without_the_data_and_wrong_ones(tmp_path: Path) -> None:
    mapping = {"mapping": {7: "road", 26: "car", "others": "ignored"}}
    path = _coloured(tmp_path, "ListDataset", mapping)
    (tmp_path / "all.txt").unlink()
    assert class_table_of(load_config(path)).class_names == ("road", "car")
    path = _coloured(tmp_path, "ListDataset", mapping | {"names": ["car", "road"]})
    opts = ["train_dataset.num_classes=3"]
    with pytest.raises(UsageError, match="num_classes: 2 expected, as classes has, got 3"):
        build_dataset(load_config(path, opts), "train_dataset")
    with pytest.raises(UsageError, match="'ignore_index' is a key of 'classes', too"):
        build_dataset(load_config(path, ["train_dataset.ignore_index=3"]), "train_dataset")


def test_numbers_of_cityscapes_need_the_kind_of_label(
    tmp_path: Path, tiny_cityscapes_shared: Path
) -> None:
    section = {"type": "Cityscapes", "dataset_root": str(tiny_cityscapes_shared), "mode": "val"}
    section |= {"classes": {"mapping": {0: "road", "others": "ignored"}}, "transforms": []}
    (tmp_path / "c.yml").write_text(yaml.safe_dump({"val_dataset": section}))
    with pytest.raises(UsageError, match="label_kind"):
        build_dataset(load_config(tmp_path / "c.yml"), "val_dataset")
    config = load_config(tmp_path / "c.yml", ["val_dataset.label_kind=labelTrainIds"])
    dataset = build_dataset(config, "val_dataset")
    assert dataset.num_classes == 1
    assert set(np.unique(dataset[0]["label"])) <= {0, 255}
