"""The embedded data set: the same for every run, a street, in Cityscapes' layout."""

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.commands import data as cli
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.data.validate import check_samples
from paddleseg_ext.images.scenes import draw_scene

HASH = "feebc700798ec99b62575a92cb582aef73e77a3747f7eba75481bde116511b4b"

HASH_SCENE = """
import hashlib
from paddleseg_ext.images.scenes import draw_scene
image, label = draw_scene(11, (131, 67))
print(hashlib.sha256(image.tobytes() + label.tobytes()).hexdigest())
"""


def test_another_process_draws_the_same_pixels() -> None:
    image, label = draw_scene(11, (131, 67))
    here = hashlib.sha256(image.tobytes() + label.tobytes()).hexdigest()
    there = subprocess.run(
        [sys.executable, "-c", HASH_SCENE], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here
    other = draw_scene(12, (131, 67))
    assert (other[1] != label).mean() > 0.02


def test_the_pixels_are_these_in_every_release_of_numpy_and_opencv() -> None:
    drawn = hashlib.sha256()
    for seed, size_wh in ((0, (384, 192)), (1, (373, 185)), (2, (256, 128)), (3, (64, 32))):
        for array in draw_scene(seed, size_wh):
            drawn.update(array.tobytes())
    assert drawn.hexdigest() == HASH


def test_an_animal_leaves_the_rest_of_the_scene_as_it_is() -> None:
    """Its value is in every scene, and pixels a blur away from it are those without it."""
    for seed in range(6):
        image, label = draw_scene(seed, (192, 96))
        with_animal, animal_label = draw_scene(seed, (192, 96), with_animal=True)
        is_animal = animal_label == 254
        assert 150 < is_animal.sum() < label.size / 4 and not (label == 254).any()
        np.testing.assert_array_equal(animal_label[~is_animal], label[~is_animal])
        near = cv2.dilate(is_animal.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        np.testing.assert_array_equal(with_animal[~near], image[~near])


def test_all_classes_but_one_are_frequent() -> None:
    labels = [draw_scene(seed, (384, 192))[1] for seed in range(24)]
    scenes_with = np.sum([np.bincount(label.ravel(), minlength=256) > 0 for label in labels], 0)
    assert scenes_with[16] == 0  # train
    assert (np.delete(scenes_with[:19], 16) >= 6).all()
    assert scenes_with[255] == 24
    assert scenes_with[19:255].sum() == 0


def test_colours_overlap_between_classes() -> None:
    """No class can be told by its colour alone: pixels of others lie within its spread."""
    drawn = [draw_scene(seed, (192, 96)) for seed in range(12)]
    pixels = np.concatenate([image.reshape(-1, 3) for image, _ in drawn]).astype(float)
    classes = np.concatenate([label.ravel() for _, label in drawn])
    for name, index in (("road", 0), ("building", 2), ("person", 11), ("car", 13)):
        own = pixels[classes == index]
        low, high = np.percentile(own, 10, axis=0), np.percentile(own, 90, axis=0)
        inside = ((pixels >= low) & (pixels <= high)).all(axis=1)
        assert len(np.unique(classes[inside])) > 6, name


def test_the_command_writes_a_usable_data_set(tmp_path: Path) -> None:
    root = tmp_path / "data"
    flags = ["synthetic", "--save_dir", str(root), "--num_images", "10", "--size", "96", "48"]
    cli.main([*flags, "--seed", "3"])
    sizes = set()
    for mode in ("train", "val"):
        for kind in ("labelTrainIds", "labelIds"):
            dataset = Cityscapes(str(root), mode=mode, label_kind=kind)
            assert check_samples(dataset.samples, dataset.class_table) == []
            sizes |= {dataset.read(index)[0].shape for index in range(len(dataset))}
        ids = Cityscapes(str(root), mode=mode, label_kind="labelIds")
        for index in range(len(ids)):
            trained = Cityscapes(str(root), mode=mode, label_kind="labelTrainIds")
            np.testing.assert_array_equal(ids[index]["label"], trained[index]["label"])
    assert len(sizes) > 1
    assert not list(tmp_path.glob(".writing*"))
    with pytest.raises(UsageError, match="not empty"):
        cli.main(flags)


@pytest.mark.parametrize(("flag", "values"), [("--size", ["10", "10"]), ("--num_images", ["1"])])
def test_settings_that_make_no_data_set(flag: str, values: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"^{flag[2:]}: at least"):
        cli.main(["synthetic", "--save_dir", str(tmp_path / "data"), flag, *values])
