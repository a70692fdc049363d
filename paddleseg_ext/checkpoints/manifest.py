"""The record beside a checkpoint: its origin, its scores, and a configuration to open it with."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import UsageError, shown
from paddleseg_ext.common.files import require_file, sha256_of, write_json
from paddleseg_ext.common.json_files import read_json
from paddleseg_ext.common.options import from_section
from paddleseg_ext.config import Config, apply_opts, check_config, load_config
from paddleseg_ext.scoring.protocols import EvaluationRule

PRETRAINED = "pretrained"
# The keys that opening a checkpoint reads. All others describe its training.
_OPENING_KEYS = (
    "model",
    "val_dataset",
    "test_config",
    "absent_class",
    "registry",
    "orientation",
)
# Of `val_dataset:`; the rest says where the data of the training was.
_DATASET_KEYS = (
    "type", "num_classes", "class_names", "ignore_index", "mode", "transforms", "img_channels",
)  # fmt: skip
_PLACE = re.compile(r"[/\\~]|^\.")  # as in paths and URLs, and in no name of a layer or option
_DEEPEST = 20  # level of nesting
_LARGEST_NUMBER = 1 << 16  # of an argument: sizes and channels are below, memory bombs above


@dataclass(frozen=True)
class CheckpointManifest:
    """The JSON file `X.pdparams.json` beside `X.pdparams`.

    Attributes:
        sha256: of the weights; empty where there is no manifest.
        network: the class's name.
        iteration: of the training.
        weights: `averaged` or `as trained`.
        config: the resolved configuration, with `_base_`, `--opts` and flags applied. Older
            manifests of imported checkpoints hold the yml's path.
        classes: `ClassTable.to_dict` of the labels that the network was trained on.
        preprocessing: the validation transforms.
        evaluation: `EvaluationRule.to_dict`: how training evaluates them.
        scores: `Evaluation.to_json` of these weights.
        versions: of paddleseg_ext and Paddle.
        training: seed, batch size and other settings that the configuration does not hold.
        imported_from: the published file that was converted.
        previous: the record of the weights that these replaced.
    """

    sha256: str = ""
    network: str = ""
    iteration: int | None = None
    weights: str = "as trained"
    config: dict[str, Any] | str | None = None
    classes: dict[str, Any] | None = None
    preprocessing: list[Any] | None = None
    evaluation: dict[str, Any] | None = None
    scores: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    imported_from: dict[str, str] = field(default_factory=dict)
    previous: dict[str, Any] | None = None

    def write(self, weights: str | Path) -> None:
        """Write the file beside `weights`, without the keys that have no value."""
        values = {k: v for k, v in asdict(self).items() if v not in (None, {}, "")}
        write_json(manifest_path(weights), values)


def manifest_path(weights: str | Path) -> Path:
    """The file beside a weights file that describes it."""
    weights = Path(weights)
    return weights.with_name(weights.name + ".json")


def read_manifest(weights: str | Path) -> CheckpointManifest:
    """The record that describes these weights; an empty one where there is no manifest.

    Keys of a newer version are left out.

    Raises:
        UsageError: the manifest is damaged, or it describes other weights.
    """
    path = manifest_path(weights)
    if not path.exists():
        return CheckpointManifest()
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a readable manifest: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: not a manifest: it holds a {type(content).__name__}")
    known = [field.name for field in fields(CheckpointManifest) if field.name != "previous"]
    digest = sha256_of(weights)
    for entry in (content, content.get("previous")):
        if isinstance(entry, dict) and entry.get("sha256") == digest:
            values = {key: entry[key] for key in known if key in entry}
            return from_section(CheckpointManifest, values, str(path), previous=None)
    raise UsageError(
        f"{weights}: its sha256 is not the one in {path.name}: the file was damaged or replaced. "
        f"Restore it, or delete {path.name} if the new file is meant"
    )


def update_manifest(weights: str | Path, **changes: Any) -> None:
    """Change fields of the record that describes these weights.

    Raises:
        UsageError: there is none (`read_manifest`).
    """
    manifest = read_manifest(weights)
    if not manifest.sha256:
        raise UsageError(f"{weights}: it has no manifest beside it")
    replace(manifest, **changes).write(weights)


def configuration_for(
    weights: str | Path, config: str | Path | None = None, opts: Iterable[str] = ()
) -> Config:
    """The configuration of a checkpoint: a yml, or where none is given that of its manifest.

    Args:
        weights: the `.pdparams` file.
        config: path or name of the yml.
        opts: `--opts` of the command line.

    Raises:
        UsageError: see `load_config` and `configuration_of`.
    """
    if config is not None:
        return load_config(config, opts)
    require_file(weights, "--model_path")
    return configuration_of(weights, opts)


def configuration_of(weights: str | Path, opts: Iterable[str] = ()) -> Config:
    """The configuration that a checkpoint's manifest holds, as far as opening it needs one.

    A manifest is not trusted. The configuration is checked like a yml, and reduced to the network
    (without `pretrained`), the classes, the validation transforms and how to evaluate. It names no
    data set's place, no other file and no URL.

    Args:
        weights: the `.pdparams` file.
        opts: `--opts` of the command line, which are trusted and applied afterwards.

    Raises:
        UsageError: the manifest holds no configuration or no classes (the message asks for
            `--config`), a damaged one, or one that names a path, a URL or an enormous size.
    """
    source = manifest_path(weights)
    manifest = read_manifest(weights)
    stored = manifest.config
    if not isinstance(stored, dict) or not isinstance(stored.get("model"), dict):
        found = "does not exist" if not source.exists() else "holds no configuration"
        raise UsageError(
            f"{weights}: {source.name} {found}; give the yml of its training with --config"
        )
    raw = {key: stored[key] for key in _OPENING_KEYS if key in stored}
    if isinstance(raw.get("val_dataset"), dict):
        dataset = raw["val_dataset"]
        raw["val_dataset"] = {key: dataset[key] for key in _DATASET_KEYS if key in dataset}
    for key, value in raw.items():
        require_harmless(value, f"{source}: {key}")
    if manifest.classes is None:
        raise UsageError(
            f"{weights}: {source.name} holds no classes; give the yml of its training with --config"
        )
    raw["model"] = without_pretrained(raw["model"])
    if manifest.evaluation:
        rule = from_section(EvaluationRule, manifest.evaluation, f"{source}: evaluation")
        raw |= {"test_config": rule.test_config(), "absent_class": rule.absent_class}
    apply_opts(raw, opts)
    return check_config(raw, weights, manifest.classes)


def without_pretrained(value: Any) -> Any:
    """A configuration without the files that its network would begin from."""
    if isinstance(value, Mapping):
        return {k: without_pretrained(v) for k, v in value.items() if k != PRETRAINED}
    return [without_pretrained(each) for each in value] if isinstance(value, list) else value


def require_harmless(value: Any, where: str, depth: int = 0) -> None:
    """Refuse values that no network's configuration needs: places, enormous sizes, deep nesting.

    Args:
        value: of a file that is not trusted.
        where: its place, which the message begins with.
        depth: levels above it.

    Raises:
        UsageError: naming the value.
    """
    if depth > _DEEPEST:
        raise UsageError(f"{where}: a manifest's configuration is nested too deeply")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in (PRETRAINED, "class_names"):  # never opened; words for people
                require_harmless(inner, f"{where}.{key}", depth + 1)
    elif isinstance(value, list):
        for inner in value:
            require_harmless(inner, where, depth + 1)
    elif isinstance(value, str) and _PLACE.search(value):
        raise UsageError(
            f"{where}: a manifest may not name a file or URL, got {shown(value)}; "
            "if it is meant, give the yml with --config"
        )
    elif isinstance(value, int | float) and not -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER:
        raise UsageError(
            f"{where}: a number up to {_LARGEST_NUMBER} is expected in a manifest, "
            f"got {shown(value)}; if it is meant, give the yml with --config"
        )
