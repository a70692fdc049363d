"""A warning where images are preprocessed otherwise than the checkpoint's manifest says.

Another mean, size or colour order gives other label maps without an error anywhere.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddleseg_ext.checkpoints.manifest import CheckpointManifest, read_manifest
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import warn
from paddleseg_ext.config import Config
from paddleseg_ext.inference.preprocess import Preprocess

NORMALIZE = "Normalize"
# What decides how pixels are read, with its defaults.
READING = {"orientation": "stored", "color_order": "RGB"}

Settings = list[tuple[str, Any]]


def warn_of_other_preprocessing(config: Config, weights: str | Path) -> None:
    """Warn in one line, naming both, where `val_dataset:` differs from the manifest's.

    Silent where the checkpoint has no manifest, or one that does not say it.

    Args:
        config: its validation transforms are used.
        weights: the `.pdparams`.
    """
    recorded = _recorded(read_manifest(weights))
    if recorded is not None:
        section = config.raw.get("val_dataset") or {}
        found = _settings({**section, "orientation": config.orientation})
        _compare(found, recorded, config, weights)


def other_size(config: Config, weights: str | Path) -> str:
    """How `val_dataset:` resizes or pads otherwise than the manifest's; empty where it does not.

    Empty too where the values differ: then the images are not the same at another size.
    """
    recorded = _recorded(read_manifest(weights))
    section = config.raw.get("val_dataset") or {}
    found = _settings({**section, "orientation": config.orientation})
    if recorded in (None, found) or _values_only(found) != _values_only(recorded or []):
        return ""
    ours, theirs = _sizes_only(found), _sizes_only(recorded or [])
    return f"{config.path} has {_describe(ours)}, and the training had {_describe(theirs)}"


def warn_of_other_training(config: Config, weights: str | Path) -> None:
    """The same for the start of a training: sizes may change there, values may not.

    `Normalize` and the reading of `train_dataset:` are compared with the manifest's.

    Args:
        config: of the training.
        weights: that it begins with.
    """
    recorded, section = _recorded(read_manifest(weights)), config.raw.get("train_dataset")
    if recorded is not None and isinstance(section, Mapping):
        found = _settings({**section, "orientation": config.orientation})
        _compare(_values_only(found), _values_only(recorded), config, weights)


def _recorded(manifest: CheckpointManifest) -> Settings | None:
    """The settings of the validation data that the network was trained with; None if unknown."""
    stored = manifest.config if isinstance(manifest.config, dict) else {}
    section = stored.get("val_dataset")
    transforms = manifest.preprocessing
    if transforms is None and not isinstance(section, Mapping):
        return None
    section = section if isinstance(section, Mapping) else {}
    read = {"orientation": stored.get("orientation", "stored")}
    return _settings({**section, **read, "transforms": transforms or section.get("transforms")})


def _settings(section: Mapping[str, Any] | None) -> Settings:
    """Reading and transforms of a data set, with default values, so that equal work is equal."""
    section = section or {}
    reading: Settings = [(k, section.get(k, default)) for k, default in READING.items()]
    transforms = section.get("transforms") or []
    if not isinstance(transforms, Sequence):
        return [*reading, ("transforms", transforms)]
    return [*reading, *(_of_transform(spec) for spec in transforms)]


def _of_transform(spec: Any) -> tuple[str, Any]:
    try:
        return Preprocess([spec]).settings[-1]
    except UsageError:  # one of training's
        values = dict(spec) if isinstance(spec, Mapping) else {"": spec}
        return str(values.pop("type", "")).removeprefix("paddleseg."), values


def _values_only(settings: Settings) -> Settings:
    """The settings that change pixel values, without those that change the size."""
    return [each for each in settings if each[0] in (NORMALIZE, *READING)]


def _sizes_only(settings: Settings) -> Settings:
    return [each for each in settings if each not in _values_only(settings)]


def _compare(found: Settings, recorded: Settings, config: Config, weights: str | Path) -> None:
    if found == recorded:
        return
    ours = [each for each in found if each not in recorded]
    theirs = [each for each in recorded if each not in found]
    if not ours and not theirs:  # the same in another order
        ours, theirs = found, recorded
    warn(
        f"{weights}: its manifest says that it was trained with {_describe(theirs)}, and "
        f"{config.path} has {_describe(ours)}: other preprocessing gives other label maps"
    )


def _describe(settings: Settings) -> str:
    shown = []
    for name, values in settings:
        if isinstance(values, dict):
            values = "(" + ", ".join(f"{k}={v}" for k, v in values.items()) + ")"
            shown.append(name + values)
        else:
            shown.append(f"{name} {values}")
    return ", ".join(shown) or "nothing in its place"
