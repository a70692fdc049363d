"""The published data sets: lists of other machines, the prepared layout, the class names."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.data.prepare.coco_stuff164k import CATEGORY_IDS
from paddleseg_ext.data.published import ADE20K, CamVid, CocoStuff10k, resolve_by_tail
from paddleseg_ext.images.class_names import ADE20K_NAMES, CELEBA_MASK_NAMES, COCO_STUFF_NAMES
from paddleseg_ext.registry import DATASETS


def write_pair(image: Path, label: Path, value: int = 1, size_wh: tuple[int, int] = (6, 4)) -> None:
    """A grey image and a label of one value."""
    for path, array in (
        (image, np.full((size_wh[1], size_wh[0], 3), 90, np.uint8)),
        (label, np.full((size_wh[1], size_wh[0]), value, np.uint8)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), array)


def _camvid(root: Path) -> Path:
    lines = []
    for name in ("b", "a"):
        write_pair(root / f"train/{name}.png", root / f"trainannot/{name}.png", 11)
        lines.append(f"/SegNet/CamVid/train/{name}.png /SegNet/CamVid/trainannot/{name}.png\n")
    (root / "train.txt").write_text("".join(lines))
    return root


def test_camvids_lists_are_resolved_by_their_ends(tmp_path: Path) -> None:
    dataset = CamVid(str(_camvid(tmp_path)))
    assert [sample.image for sample in dataset.samples] == [
        tmp_path / "train/b.png",
        tmp_path / "train/a.png",
    ]
    assert (dataset[0]["label"] == 255).all()
    assert dataset.num_classes == 11


def test_a_file_that_no_end_leads_to_stays_missing(tmp_path: Path) -> None:
    assert resolve_by_tail("/x/y/z.png", tmp_path) == tmp_path / "z.png"
    write_pair(tmp_path / "y/z.png", tmp_path / "l.png")
    assert resolve_by_tail("/x/y/z.png", tmp_path) == tmp_path / "y/z.png"


def test_camvid_pairs_must_have_one_name(tmp_path: Path) -> None:
    root = _camvid(tmp_path)
    (root / "train.txt").write_text("/C/train/a.png /C/trainannot/b.png\n/C/train/b.png\n")
    with pytest.raises(UsageError, match="2 images and labels"):
        CamVid(str(root))


def test_real_camvid(shared_dir: Path) -> None:
    root = str(shared_dir / "data/camvid")
    sizes = {mode: len(CamVid(root, mode=mode)) for mode in ("train", "val", "trainval")}
    assert sizes == {"train": 367, "val": 101, "trainval": 468}
    item = CamVid(root, mode="val")[0]
    assert item["img"].shape == (3, 360, 480)
    assert set(np.unique(item["label"])) <= {*range(11), 255}


def test_the_publishers_ade20k_is_read_as_it_is(tmp_path: Path) -> None:
    """Its labels count from 1; one with the value 0 is ignored."""
    for split, value in (("training", 1), ("validation", 150)):
        write_pair(
            tmp_path / f"images/{split}/a.jpg", tmp_path / f"annotations/{split}/a.png", value
        )
        write_pair(tmp_path / f"images/{split}/b.jpg", tmp_path / f"annotations/{split}/b.png", 0)
    for mode, expected in (("train", 0), ("val", 149)):
        dataset = ADE20K(str(tmp_path), mode=mode)
        assert {int(dataset[n]["label"].max()) for n in range(2)} == {expected, 255}
    prepared = tmp_path / "prepared"
    write_pair(prepared / "images/train/a.jpg", prepared / "labels/train/a.png", 1)
    assert (ADE20K(str(prepared))[0]["label"] == 1).all()


def test_the_prepared_layout(tmp_path: Path) -> None:
    for split, name in (("train", "1"), ("train", "2"), ("val", "3")):
        write_pair(tmp_path / f"images/{split}/{name}.jpg", tmp_path / f"labels/{split}/{name}.png")
    assert [len(ADE20K(str(tmp_path), mode=mode)) for mode in ("train", "val", "trainval")] == [
        2,
        1,
        3,
    ]
    assert ADE20K(str(tmp_path)).num_classes == 150
    (tmp_path / "labels/train/1.png").unlink()
    (tmp_path / "images/train/2.jpg").unlink()
    with pytest.raises(UsageError, match="2 files without"):
        ADE20K(str(tmp_path))


def test_an_absent_set_names_its_converter(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="data prepare coco_stuff10k --from"):
        CocoStuff10k(str(tmp_path))


def test_each_is_found_by_its_type() -> None:
    for name in ("ADE20K", "CamVid", "CelebAMaskHQ", "CocoStuff10k", "CocoStuff164k"):
        table = DATASETS.find(name).CLASS_TABLE  # type: ignore[attr-defined]
        assert len(set(table.class_names)) == table.num_classes == len(table.palette)


@pytest.mark.parametrize(
    ("names", "sha256", "positions"),
    # The digests are of the publishers' own lists, joined by line feeds; see data/class_names.py.
    [
        (
            ADE20K_NAMES,
            "ffd47f2fcbad6c484a3e320702ff1278dae14e78d443d81987142210b70c5032",
            {0: "wall", 12: "person", 89: "television", 149: "flag"},
        ),
        (
            COCO_STUFF_NAMES,
            "8ea44449837dceb30923012b201fe0152adc612160d0d040c9cfcd77e95f6801",
            {0: "person", 11: "stop sign", 79: "toothbrush", 80: "banner", 170: "wood"},
        ),
        (
            CELEBA_MASK_NAMES,
            "bbe460f70e14f33d09cc7d1159e4d490993ca6b41af392ea874cd2eefbffcf52",
            {0: "background", 6: "eye_g", 17: "hair", 18: "hat"},
        ),
    ],
)
def test_class_names_are_the_publishers(names: tuple, sha256: str, positions: dict) -> None:
    assert {index: names[index] for index in positions} == positions
    assert hashlib.sha256("\n".join(names).encode()).hexdigest() == sha256


def test_coco_stuffs_ids_that_nobody_annotated() -> None:
    """COCO's own numbers of a few classes (labels.txt), on both sides of the gaps."""
    known = {1: 0, 13: 11, 90: 79, 92: 80, 182: 170}
    assert {number: CATEGORY_IDS.index(number) for number in known} == known
    assert len(CATEGORY_IDS) == 171
