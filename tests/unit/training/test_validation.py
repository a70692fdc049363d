"""What evaluation while training shows: image, label and prediction, in the classes' colours."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from paddle import nn

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.distributed.world import World
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.scoring.protocols import PROTOCOLS
from paddleseg_ext.training.validation import PICTURE_WIDTH, make_validation

WIDTH, HEIGHT = 400, 16


class ChannelNetwork(nn.Layer):
    """Class = the strongest channel."""

    def forward(self, images):  # type: ignore[no-untyped-def]
        return [images]


def test_pictures(tmp_path: Path) -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 1] = 200  # green: class 1
    cv2.imwrite(str(tmp_path / "a.png"), image)
    label = np.full((HEIGHT, WIDTH), 255, np.uint8)
    label[-1, -1] = 1
    cv2.imwrite(str(tmp_path / "a_label.png"), label)
    table = generic_table(3)
    samples = [Sample(tmp_path / "a.png", tmp_path / "a_label.png", "a")]
    # `transforms:` with nothing behind it is no transform.
    config = SimpleNamespace(
        val_dataset={"transforms": None},
        absent_class="skip",
        orientation="stored",
        img_channels=3,
    )
    plan = SimpleNamespace(config=config, protocols={None: PROTOCOLS["whole"]})
    data = SimpleNamespace(class_table=table, samples=samples)
    with pytest.raises(UsageError, match="val_dataset has 3 classes, train_dataset 5"):
        make_validation(plan, data, 5, World())  # type: ignore[arg-type]
    validate = make_validation(plan, data, 3, World())  # type: ignore[arg-type]
    shown: dict[str, np.ndarray] = {}
    monitor = SimpleNamespace(
        shows_pictures=True, picture=lambda name, pixels, _: shown.update({name: pixels})
    )
    validate(ChannelNetwork(), monitor, 1, None)  # type: ignore[arg-type]
    (picture,) = shown.values()
    assert list(shown) == ["Evaluate/a"] and picture.shape[1] == PICTURE_WIDTH
    third = PICTURE_WIDTH // 3
    colors = [picture[5, third * i + third // 2].tolist() for i in range(3)]
    assert colors[::2] == [[0, 200, 0], table.palette[1].tolist()]
    assert colors[1] == colors[1][:1] * 3 and 90 <= colors[1][0] <= 200  # hatched: ignored
