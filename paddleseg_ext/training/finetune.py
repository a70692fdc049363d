"""Starting from a whole trained network that may have other classes: `--finetune`.

`pretrained:` loads all tensors that fit, for backbones; `--resume_model` continues the same run.
This is between the two: all tensors must fit but those whose size follows from the class count.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from paddleseg_ext.checkpoints.manifest import read_manifest
from paddleseg_ext.checkpoints.store import load_arrays_into, read_arrays, remedy_for
from paddleseg_ext.common.errors import UsageError, shortened
from paddleseg_ext.common.log import log
from paddleseg_ext.config import Config
from paddleseg_ext.models.build import build_model

if TYPE_CHECKING:
    from paddle import nn


def load_for_finetuning(config: Config, model: "nn.Layer", num_classes: int, path: str) -> None:
    """Load all tensors of `path` but those of other classes, and log which were loaded.

    Args:
        config: that `model` was built from.
        model: with fresh weights, which class-dependent tensors keep where they do not fit.
        num_classes: of `model`.
        path: a `.pdparams` file.

    Raises:
        UsageError: a tensor that does not depend on the class count is missing or misshapen, the
            checkpoint has one that the network lacks, or the file is damaged.
    """
    arrays = read_arrays(path)
    read_manifest(path)
    class_tensors = names_of_class_tensors(config, model, num_classes)
    others = {
        name
        for name, tensor in model.state_dict().items()
        if name in class_tensors
        and name in arrays
        and list(arrays[name].shape) != list(tensor.shape)
    }
    taken = {name: array for name, array in arrays.items() if name not in others}
    report = load_arrays_into(model, taken, f"--finetune: {path}", strict=False)
    missing = [name for name in report.missing if name not in others]
    if missing or report.unexpected or report.misshapen:
        report = replace(report, missing=missing)
        remedy = remedy_for(model.state_dict(), arrays) or (
            "Only tensors that depend on the class count may differ; where some may be missing, "
            "use --opts pretrained=FILE"
        )
        raise UsageError(
            f"--finetune: {path} does not fit {type(model).__name__}: {report.describe()}. {remedy}"
        )
    log(f"--finetune: {path}: {report.loaded} of {report.total} tensors were taken")
    if others:
        log(f"--finetune: of another class count, left fresh: {shortened(sorted(others))}")


def names_of_class_tensors(config: Config, model: "nn.Layer", num_classes: int) -> set[str]:
    """The tensors whose shape follows from the class count, found by building one class more."""
    description = {**config.model, "num_classes": num_classes + 1}
    other = build_model(replace(config, raw={**config.raw, "model": description}), num_classes + 1)
    shapes = {name: np.shape(tensor) for name, tensor in other.state_dict().items()}
    return {
        name for name, tensor in model.state_dict().items() if np.shape(tensor) != shapes.get(name)
    }
