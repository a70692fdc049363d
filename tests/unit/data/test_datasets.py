"""Pairing by name, and items as the training sees them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import DataError, MissingData, UsageError, require_none
from paddleseg_ext.data.datasets import Cityscapes, ListDataset
from paddleseg_ext.data.transforms import Normalize, RandomHorizontalFlip


def _label(path: Path, kind: str) -> Path:
    name = path.name.replace("_leftImg8bit", f"_gtFine_{kind}")
    return Path(str(path.parent).replace("leftImg8bit", "gtFine")) / name


def test_the_splits(tiny_cityscapes: Path) -> None:
    root = str(tiny_cityscapes)
    sizes = {mode: len(Cityscapes(root, mode=mode)) for mode in ("train", "val", "trainval")}
    assert sizes == {"train": 6, "val": 2, "trainval": 8}


def test_every_pair_has_one_name(tiny_cityscapes: Path) -> None:
    for sample in Cityscapes(str(tiny_cityscapes)).samples:
        assert sample.label == _label(sample.image, "labelTrainIds")
        assert sample.name == f"tiny/{sample.image.stem}"


def test_all_files_without_partner_are_listed_at_once(tiny_cityscapes: Path) -> None:
    samples = Cityscapes(str(tiny_cityscapes)).samples
    first, second = samples[0].label, samples[3].image
    assert first is not None
    first.unlink()
    second.unlink()
    with pytest.raises(UsageError, match="2 files") as caught:
        Cityscapes(str(tiny_cityscapes))
    assert str(samples[0].image) in str(caught.value)
    assert str(samples[3].label) in str(caught.value)


def test_no_list_of_problems_is_cut() -> None:
    require_none([], "these:")
    with pytest.raises(UsageError, match=r"^these:\n  0\n(.*\n)*  2998\n  2999$"):
        require_none([str(n) for n in range(3000)], "these:")


def test_label_ids_serve_where_there_are_no_train_ids(tiny_cityscapes: Path) -> None:
    sample = Cityscapes(str(tiny_cityscapes)).samples[0]
    assert sample.label is not None
    raw = np.full((64, 96), 26, np.uint8)
    cv2.imwrite(str(_label(sample.image, "labelIds")), raw)
    assert Cityscapes(str(tiny_cityscapes)).samples[0].label == sample.label
    sample.label.unlink()
    dataset = Cityscapes(str(tiny_cityscapes))
    assert (dataset[0]["label"] == 13).all()
    with pytest.raises(UsageError, match="no label"):
        Cityscapes(str(tiny_cityscapes), label_kind="labelTrainIds")


def test_a_missing_root_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="data synthetic --save_dir"):
        Cityscapes(str(tmp_path / "absent"))


@pytest.mark.parametrize("arguments", [{"mode": "vall"}, {"label_kind": "trainIds"}])
def test_wrong_words(arguments: dict[str, str], tiny_cityscapes: Path) -> None:
    with pytest.raises(UsageError, match="is expected"):
        Cityscapes(str(tiny_cityscapes), **arguments)  # type: ignore[arg-type]


def test_an_item(tiny_cityscapes: Path) -> None:
    plain = Cityscapes(str(tiny_cityscapes), [Normalize()])[0]
    assert (plain["img"].shape, plain["img"].dtype) == ((3, 64, 96), np.float32)
    assert (plain["label"].shape, plain["label"].dtype) == ((64, 96), np.int64)
    assert -1 <= plain["img"].min() < plain["img"].max() <= 1
    flipped = Cityscapes(str(tiny_cityscapes), [RandomHorizontalFlip(prob=1), Normalize()])[0]
    np.testing.assert_array_equal(flipped["img"], plain["img"][:, :, ::-1])
    np.testing.assert_array_equal(flipped["label"], plain["label"][:, ::-1])


def test_a_misshapen_pair_is_named(tiny_cityscapes: Path) -> None:
    dataset = Cityscapes(str(tiny_cityscapes))
    label = dataset.samples[0].label
    cv2.imwrite(str(label), np.zeros((10, 20), np.uint8))
    with pytest.raises(DataError, match="20x10") as caught:
        dataset[0]
    assert str(caught.value).startswith(str(label))


def _list_dataset(root: Path, **arguments: object) -> ListDataset:
    cv2.imwrite(str(root / "i.png"), np.zeros((4, 6, 3), np.uint8))
    cv2.imwrite(str(root / "l.png"), np.array([[0, 1, 2, 9, 1, 1]] * 4, np.uint8))
    (root / "train.txt").write_text("i.png l.png\n")
    defaults = {"num_classes": 3, "train_path": "train.txt", "ignore_index": 9}
    return ListDataset(str(root), **{**defaults, **arguments})  # type: ignore[arg-type]


def test_lists(tmp_path: Path) -> None:
    dataset = _list_dataset(tmp_path, class_names=["a", "b", "c"])
    assert dataset[0]["label"][0].tolist() == [0, 1, 2, 255, 1, 1]
    assert dataset.ignore_index == 255
    assert dataset.class_table.class_names == ("a", "b", "c")


def test_folders_and_suffixes_with_and_without_a_list(tmp_path: Path) -> None:
    """VOC's lists hold names, other people's masks lie beside the images."""
    for name in ("a/1", "a/2", "b/1"):
        for folder, ending in (("JPEGImages", ".jpg"), ("Masks", ".png"), ("both", "_mask.png")):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f"{name}{ending}"), np.zeros((4, 6), np.uint8))
        cv2.imwrite(str(tmp_path / f"both/{name}.png"), np.zeros((4, 6), np.uint8))
    (tmp_path / "train.txt").write_text("b/1\na/2\n")
    files = {"images": "JPEGImages", "labels": "Masks", "image_suffix": ".jpg"}
    listed = ListDataset(str(tmp_path), 2, train_path="train.txt", files=files)
    assert [sample.name for sample in listed.samples] == ["b/1", "a/2"]
    assert listed[0]["label"].shape == (4, 6)
    whole = ListDataset(str(tmp_path), 2, files=files)
    assert [sample.name for sample in whole.samples] == ["a/1", "a/2", "b/1"]
    beside = {"images": "both", "labels": "both", "label_suffix": "_mask.png"}
    masks = ListDataset(str(tmp_path), 2, files=beside)
    assert next(sample.label.name for sample in masks.samples if sample.label) == "1_mask.png"
    assert len(masks) == 3
    (tmp_path / "Masks/a/2.png").unlink()
    with pytest.raises(MissingData, match=r"1 files(.|\n)*a/2.jpg: no label"):
        ListDataset(str(tmp_path), 2, train_path="train.txt", files=files)
    assert len(ListDataset(str(tmp_path), 2, mode="test", files=files)) == 3
    (tmp_path / "train.txt").write_text("a/9\n")
    with pytest.raises(MissingData, match=r"a/9.jpg: no image"):
        ListDataset(str(tmp_path), 2, train_path="train.txt", files=files)
    (tmp_path / "train.txt").write_text("a/1.jpg a/1.png\n")
    with pytest.raises(UsageError, match="a line is one name"):
        ListDataset(str(tmp_path), 2, train_path="train.txt", files=files)
    with pytest.raises(UsageError, match="did you mean 'images'"):
        ListDataset(str(tmp_path), 2, files={"image": "x"})


def test_lists_that_do_not_serve(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="val_path"):
        _list_dataset(tmp_path, mode="val")
    (tmp_path / "images.txt").write_text("i.png\n")
    with pytest.raises(UsageError, match="without a label"):
        _list_dataset(tmp_path, mode="val", val_path="images.txt")
    assert "label" not in _list_dataset(tmp_path, mode="test", test_path="images.txt")[0]
    with pytest.raises(UsageError, match="not a folder"):
        ListDataset(str(tmp_path / "absent"), 3, train_path="train.txt")
    with pytest.raises(UsageError, match=r"^train_path: a path is expected, got \['a\.txt'\]"):
        _list_dataset(tmp_path, train_path=["a.txt"])
    with pytest.raises(UsageError, match=r"^dataset_root: a path is expected, got 5"):
        ListDataset(5, 3, train_path="train.txt")  # type: ignore[arg-type]


def test_messages_name_a_data_set_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _list_dataset(Path()).class_table.name == tmp_path.name


def test_real_cityscapes(shared_dir: Path) -> None:
    root = str(shared_dir / "data/cityscapes")
    ids, train_ids = (
        Cityscapes(root, mode="val", label_kind=kind) for kind in ("labelIds", "labelTrainIds")
    )
    assert len(ids) == len(train_ids) == 4
    for index in range(4):
        by_table, as_shipped = ids[index]["label"], train_ids[index]["label"]
        assert set(np.unique(by_table)) <= {*range(19), 255}
        assert (by_table != as_shipped).mean() < 0.005


def test_a_list_for_another_mode_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mode 'train'; to read val_path, set mode: val"):
        ListDataset(str(tmp_path), 2, val_path="val.list")
