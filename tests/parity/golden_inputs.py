"""Inputs of golden losses and evaluations, made by the `fixture.py` beside the cases."""

import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import UsageError

IGNORE = 255


def load_generator(directory: Path) -> ModuleType:
    """The `fixture.py` of a folder of cases, which makes their images, labels and logits.

    Raises:
        UsageError: it is neither in the folder, nor above it, nor in the reference data.
    """
    known = Path(__file__).resolve().parents[3] / "shared" / "golden"
    for path in (folder / "fixture.py" for folder in (directory, *directory.parents[:2], known)):
        if path.exists():
            spec = importlib.util.spec_from_file_location("golden_fixture", path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise UsageError(f"'{directory}' has no fixture.py, which makes the inputs of this case")


def make_labels(
    generator: ModuleType, spec: Mapping[str, Any], shape: Any = None, classes: Any = None
) -> np.ndarray:
    """Labels by the `labels` of a meta.json; a loss gives shape and classes with its logits."""
    labels = generator.make_labels(
        shape or spec["shape"],
        classes or spec["n_classes"],
        spec["seed"],
        spec["block"],
        spec["ignore_frac"],
    )
    return edit_labels(labels, spec.get("edit"))


def edit_labels(labels: np.ndarray, edit: str | None) -> np.ndarray:
    """The labels after an assignment such as `labels[0, 3, 4] = 2`; `:` is a whole side.

    Raises:
        ValueError: anything else, which is not executed.
    """
    if edit is None:
        return labels
    match = re.fullmatch(r"labels\[([\d:, ]+)\] = (\d+)", edit)
    if match is None:
        raise ValueError(f"unknown edit of the labels: {edit}")
    labels[tuple(_index(part) for part in match[1].split(","))] = int(match[2])
    return labels


def _index(part: str) -> int | slice:
    bounds = [int(bound) if bound.strip() else None for bound in part.split(":")]
    if len(bounds) == 1 and bounds[0] is not None:
        return bounds[0]
    return slice(*bounds)


def make_pixel_inputs(
    generator: ModuleType, sub: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of a sub-case; `boost` is added to the logit of each pixel's label."""
    shape, boost = sub["logits"]["shape"], np.float32(sub["logits"]["boost"])
    n, classes, height, width = shape
    labels = make_labels(generator, sub["labels"], (n, height, width), classes)
    logits = generator.make_input(shape, sub["logits"]["seed"])
    for image, row, column in np.argwhere(labels != IGNORE):
        logits[image, labels[image, row, column], row, column] += boost
    return logits, labels


def loss_and_gradient(
    loss: Callable[..., Any], logits: np.ndarray, labels: np.ndarray
) -> tuple[float, np.ndarray]:
    """The loss and d loss / d logits."""
    import paddle

    tensor = paddle.to_tensor(logits, stop_gradient=False)
    value = loss(tensor, paddle.to_tensor(labels))
    value.backward()
    return float(value), tensor.grad.numpy()
