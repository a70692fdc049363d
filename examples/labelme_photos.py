"""Draws street "photos" with LabelMe files beside them, in place of your own: docs/tutorial.md.

    python examples/labelme_photos.py photos

Each outline of a class becomes a polygon, as a person would draw it: a pixel too far out, so that
no gaps are left, and the larger ones first, so that what lies in front is drawn last.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from paddleseg_ext.images.labels import CITYSCAPES
from paddleseg_ext.images.scenes import draw_scene

MERGED = {
    "road": ("road", "sidewalk"),
    "building": ("building", "wall", "fence"),
    "plant": ("vegetation", "terrain"),
    "sky": ("sky",),
    "vehicle": ("car", "truck", "bus", "motorcycle", "bicycle"),
    "person": ("person", "rider"),
}
LEAST_AREA = 12  # pixels of a polygon
JPEG_QUALITY = 92


def shapes_of(label: np.ndarray) -> list[dict]:
    """LabelMe's polygons of a label (H, W) of Cityscapes' classes, the largest first."""
    found = []
    for name, classes in MERGED.items():
        ids = [CITYSCAPES.class_names.index(each) for each in classes]
        mask = cv2.dilate(np.isin(label, ids).astype(np.uint8), np.ones((3, 3), np.uint8))
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
        for points in outlines:
            area = cv2.contourArea(points)
            if area >= LEAST_AREA:
                # The centres of the border's pixels lie half a pixel from their corners.
                found.append((area, name, (points[:, 0] + 0.5).tolist()))
    found.sort(key=lambda shape: -shape[0])
    return [
        {"label": name, "points": points, "shape_type": "polygon", "group_id": None, "flags": {}}
        for _, name, points in found
    ]


def main() -> None:
    """Writes `street_000.jpg` and `street_000.json`, ... into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("save_dir", type=Path, metavar="SAVE_DIR")
    parser.add_argument("--num_images", type=int, default=36)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 128), metavar=("W", "H"))
    args = parser.parse_args()
    args.save_dir.mkdir(parents=True, exist_ok=True)
    for number in range(args.num_images):
        image, label = draw_scene(number, tuple(args.size))
        height, width = label.shape
        path = args.save_dir / f"street_{number:03d}.jpg"
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
        annotation = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes_of(label),
            "imagePath": path.name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        path.with_suffix(".json").write_text(json.dumps(annotation))
    print(f"{args.num_images} photos and their LabelMe files: {args.save_dir}")


if __name__ == "__main__":
    main()
