"""Copies, mirrored ones and leaks."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.data.near_duplicates import (
    MOST_DIFFERENT,
    find_twins,
    mirrored_hash,
    perceptual_hash,
)
from paddleseg_ext.data.parts import Part
from paddleseg_ext.images.labels import CITYSCAPES
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.images.scenes import draw_scene


def scene(seed: int) -> np.ndarray:
    return draw_scene(seed, (192, 96))[0]


def part(folder: Path, name: str, images: dict[str, np.ndarray]) -> Part:
    samples = []
    for stem, image in images.items():
        path = folder / name / stem
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image[:, :, ::-1])
        samples.append(Sample(path, None, path.stem))
    return Part(name, samples, CITYSCAPES)


def test_copies_and_leaks_are_found_and_other_streets_are_not(tmp_path: Path) -> None:
    bright = np.clip(scene(1) * 1.2 + 10, 0, 255).astype(np.uint8)
    small = cv2.resize(scene(2), (96, 48), interpolation=cv2.INTER_AREA)
    train = {f"{i}.png": scene(i) for i in range(8)} | {"small.jpg": small}
    val = {"new.png": scene(20), "bright.jpg": bright, "mirror.png": scene(5)[:, ::-1]}
    parts = [part(tmp_path, "train", train), part(tmp_path, "val", val)]
    twins, problems = find_twins(parts)
    assert not problems
    found = {(t.first, t.second, t.is_leak, t.is_mirrored) for t in twins}
    assert found == {
        ("train: 1", "val: bright", True, False),
        ("train: 5", "val: mirror", True, True),
        ("train: 2", "train: small", False, False),
    }
    assert [t.is_leak for t in twins] == [True, True, False]
    assert all(t.difference <= MOST_DIFFERENT for t in twins)


@pytest.mark.parametrize("width", [192, 191])
def test_the_hash_of_a_mirrored_image_needs_no_second_reading(width: int) -> None:
    image = cv2.resize(scene(3), (width, 96))
    mirrored = perceptual_hash(np.ascontiguousarray(image[:, ::-1]))
    assert (mirrored_hash(perceptual_hash(image)) != mirrored).mean() < 0.02


def test_empty_pictures_are_no_copies_and_broken_ones_are_named(tmp_path: Path) -> None:
    flat = {
        "black.png": np.zeros((9, 9, 3), np.uint8),
        "grey.png": np.full((9, 9, 3), 99, np.uint8),
    }
    given = part(tmp_path, "train", flat)
    (tmp_path / "train" / "bad.png").write_bytes(b"no image")
    given.samples.append(Sample(tmp_path / "train" / "bad.png", None, "bad"))
    twins, problems = find_twins([given])
    assert not twins and len(problems) == 1 and "bad.png" in problems[0]
