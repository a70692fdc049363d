"""A yml in PaddleSeg's form -> a checked configuration, without importing Paddle.

Checked here: the yml's syntax, duplicate and unknown keys of the top level, types and ranges of
the numbers. The arguments of a component (a model, a transform) are checked against its
constructor when it is built (`registry.build`), the sections of training when a training is
planned (`training.plan`). Nothing in a yml is ever executed.
"""

import copy
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from paddleseg_ext.common.errors import (
    UsageError,
    check_count,
    check_keys,
    check_path,
    nearest_name,
    shortened,
    shown,
)
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.options import from_section, option
from paddleseg_ext.common.shipped_configs import find_config
from paddleseg_ext.common.yml import parse_yaml, read_sections
from paddleseg_ext.registry import BACKBONES, MODELS
from paddleseg_ext.scoring.metrics import AbsentRule

ABSENT_RULES = get_args(AbsentRule)

# Former names of keys, which mean the same: section -> former name -> name.
_RENAMED = {"model": {"wiring": "variant"}}

_DATASETS = ("train_dataset", "val_dataset")
IMG_CHANNELS = "img_channels"  # key of a data set: 1 for grey images
_BASE_KEY = "_base_"
_INHERITED_KEY = "_inherited_"
# A key of another file.
_UNSUPPORTED = {
    "Deploy": "this is the deploy.yaml of a bundle; the yml of the training is expected"
}
# Keys that PaddleSeg's ymls have and its train.py does not read, with what is read instead.
_UNREAD = {
    "learning_rate": "the rate is that of lr_scheduler",
    "num_classes": "their number is that of the data set",
}


@dataclass(frozen=True)
class Sections:
    """The keys that have no default. Each is required where it is used, and only there."""

    model: dict[str, Any] | None = option(
        None,
        "`type`, `backbone`, and the network's own arguments; `variant` names the published "
        "version (its former name `wiring` means the same)",
    )
    train_dataset: dict[str, Any] | None = option(
        None, "training data: `type`, `dataset_root`, `mode`, `transforms`"
    )
    val_dataset: dict[str, Any] | None = option(None, "the same for the data that is scored")
    classes: dict[str, Any] | str | None = option(
        None,
        "of both data sets, where they have none of their own: names, colours, and what label "
        "values mean, [here](own_data.md#classes-names-colours-and-what-label-values-mean)",
    )
    loss: dict[str, Any] | None = option(
        None, "`types`, one per head (a single one serves all heads), and `coef`, their weights"
    )
    optimizer: dict[str, Any] | None = option(None, "[below](#optimizer)")
    lr_scheduler: dict[str, Any] | None = option(None, "[below](#lr_scheduler)")
    iters: int | None = option(None, "training iterations", at_least=1)
    pretrained: str | None = option(
        None,
        "file of the weights to start from; `model.pretrained` is the same, "
        "`model.backbone.pretrained` is for the backbone alone. Nothing is downloaded. `none`: "
        "from scratch, also where the recipe has `starting_weights`",
    )


@dataclass(frozen=True)
class Config:
    """A checked configuration. Its mappings are read-only.

    Attributes:
        path: the yml, or the checkpoint whose manifest holds the configuration.
        raw: all keys, with `_base_`, `--opts` and flags applied.
        classes: `ClassTable.to_dict` of a checkpoint's manifest; None for a yml, whose data set
            has the classes.
    """

    path: Path
    raw: dict[str, Any]
    classes: dict[str, Any] | None = None
    batch_size: int = option(1, "samples per batch and process", at_least=1)
    accumulate: int = option(1, "batches whose gradients an iteration adds up", at_least=1)
    ema: dict[str, Any] | None = option(None, "averaged weights, [below](#ema)")
    distillation: dict[str, Any] | None = option(None, "a teacher's logits, [below](#distillation)")
    distill_loss: dict[str, Any] | None = option(
        None, "PaddleSeg's form of `distillation.losses`; of use with a teacher only"
    )
    freeze_bn: bool = option(False, "batch norms use their running statistics and keep them")
    starting_weights: dict[str, Any] = option(
        {}, "the file that a recipe begins from, [where it exists](training.md#recipes)"
    )
    initialization: str = option(
        "default",
        "first weights of what no file covers, [as a published system draws them]"
        "(training.md#recipes)",
    )
    keep_best: list[str] = option(
        [], "protocols that training evaluates by, with one best checkpoint per protocol"
    )
    test_config: dict[str, Any] = option({}, "how to [evaluate](evaluation.md)")
    absent_class: AbsentRule = option(
        "skip",
        "how a class absent from labels and predictions counts in means: `skip`, `zero`, `one`, "
        "`smooth`",
    )
    sync_bn: bool = option(
        True,
        "[several processes](distributed.md) normalise by the mean and variance of all their "
        "batches; `false`: each by its own",
    )
    orientation: Literal["stored", "upright"] = option(
        "stored",
        "`upright` applies the orientation tag of image files (and label files) that have one; "
        "`stored` reads the pixels [as they are in the file](data.md#how-files-are-read)",
    )
    registry: Literal["paddleseg_ext", "paddleseg"] = option(
        "paddleseg_ext", "`paddleseg` makes every `type` PaddleSeg's"
    )
    to_static_training: bool = option(False, "PaddleSeg's key for `train --to_static True`")
    export: dict[str, Any] | None = option(
        None,
        "of PaddleSeg's ymls; not used, as in PaddleSeg 2.8: a bundle has the transforms of "
        "`val_dataset`",
    )

    def with_defaults(self) -> dict[str, Any]:
        """All keys with their value or default; those that have neither are left out."""
        defaults = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata}
        return copy.deepcopy(self.raw | defaults)

    def section(self, name: str) -> Any:
        """The value of the key `name`.

        Raises:
            UsageError: the yml has no such key.
        """
        if name not in self.raw:
            raise UsageError(f"{self.path}: the section '{name}' is missing")
        return self.raw[name]

    @property
    def model(self) -> dict[str, Any]:
        """`model:`, the network and its arguments."""
        return self.section("model")

    @property
    def loss(self) -> dict[str, Any]:
        """`loss:` with `types` and `coef`, one of each per head."""
        return self.section("loss")

    @property
    def optimizer(self) -> dict[str, Any]:
        """`optimizer:`, see `training.optimizer`."""
        return self.section("optimizer")

    @property
    def lr_scheduler(self) -> dict[str, Any]:
        """`lr_scheduler:`, see `training.schedules`."""
        return self.section("lr_scheduler")

    @property
    def train_dataset(self) -> dict[str, Any]:
        """`train_dataset:`, the training data."""
        return self.section("train_dataset")

    @property
    def val_dataset(self) -> dict[str, Any]:
        """`val_dataset:`, the data that is scored."""
        return self.section("val_dataset")

    @property
    def img_channels(self) -> int:
        """Channels of the network's input: `img_channels` of the data sets, 3 by default.

        Raises:
            UsageError: the two data sets differ in it.
        """
        given = [
            section[IMG_CHANNELS]
            for name in _DATASETS
            if isinstance(section := self.raw.get(name), dict) and IMG_CHANNELS in section
        ]
        if given and given[0] != given[-1]:
            raise UsageError(
                f"{self.path}: {IMG_CHANNELS}: train_dataset and val_dataset differ: "
                f"{shown(given[0])} and {shown(given[-1])}"
            )
        return given[0] if given else 3

    @property
    def iters(self) -> int:
        """Training iterations."""
        return self.section("iters")

    @property
    def only_paddleseg(self) -> bool:
        """Whether `registry: paddleseg` makes every `type:` PaddleSeg's."""
        return self.registry == "paddleseg"

    @property
    def pretrained(self) -> str | None:
        """File of the weights to start from; PaddleSeg's `model.pretrained` means the same."""
        return self.raw.get("pretrained") or self.model.get("pretrained")


def load_config(path: str | Path, opts: Iterable[str] = (), **overrides: Any) -> Config:
    """Read a yml with its `_base_` files, apply `--opts` and flags, and check the result.

    Args:
        path: the yml, or the name of a shipped one (`common.shipped_configs`).
        opts: texts `dotted.key=value` with values in yml syntax; list items go by number.
        overrides: `iters`, `batch_size`, `accumulate`, `learning_rate`, `teacher_model`,
            `teacher_config`; None means "as in the yml".

    Raises:
        UsageError: naming the file, the key and what was expected.
    """
    check_path("configuration", path)
    path = find_config(path)
    repeated: list[str] = []
    raw = _read_with_bases(path, (), repeated)
    if repeated and not is_of_paddleseg(raw):
        raise UsageError(repeated[0])
    for line in repeated:
        warn(f"{line}, with another value; as in PaddleSeg, the last one counts")
    apply_opts(raw, opts)
    learning_rate = overrides.pop("learning_rate", None)
    scheduler = raw.get("lr_scheduler") or {}
    if learning_rate is not None and isinstance(scheduler, dict):  # else `check_config` says so
        raw["lr_scheduler"] = scheduler | {"learning_rate": learning_rate}
    _set_teacher(raw, overrides)
    raw.update({key: value for key, value in overrides.items() if value is not None})
    return check_config(raw, path)


def _set_teacher(raw: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Move the flags of a teacher into `distillation:`."""
    flags = {"teacher": "teacher_model", "teacher_config": "teacher_config"}
    given = {key: overrides.pop(flag, None) for key, flag in flags.items()}
    given = {key: value for key, value in given.items() if value is not None}
    section = raw.get("distillation") or {}
    if given and isinstance(section, dict):  # else `check_config` says so
        raw["distillation"] = section | given


def is_of_paddleseg(raw: Mapping[str, Any]) -> bool:
    """Whether the keys of a yml name a network or a backbone that only PaddleSeg can have."""
    model = raw.get("model")
    if raw.get("registry") == "paddleseg":
        return True
    if not isinstance(model, dict) or not isinstance(model.get("type"), str):
        return False
    backbone = model.get("backbone")
    name = backbone.get("type") if isinstance(backbone, dict) else None
    return not MODELS.is_ours(model["type"]) or (
        isinstance(name, str) and not BACKBONES.is_ours(name)
    )


def _without_unread(raw: Mapping[str, Any], known: Collection[str], path: str | Path) -> dict:
    """The keys of a yml of PaddleSeg's that are read here; a warning for the others.

    PaddleSeg takes any key at the top. One that is nearly a known one stays, and is refused.
    """
    unread = [
        key
        for key in raw
        if key not in (*known, *_UNSUPPORTED)
        and (key in _UNREAD or not get_close_matches(str(key), known, n=1, cutoff=0.7))
    ]
    if unread:
        instead = [_UNREAD[key] for key in unread if key in _UNREAD]
        warn(
            f"{path}: not used, as in PaddleSeg's train.py: "
            f"{'; '.join([shortened([str(key) for key in unread]), *instead])}"
        )
    return {key: value for key, value in raw.items() if key not in unread}


def check_config(
    raw: Mapping[str, Any], path: str | Path, classes: dict[str, Any] | None = None
) -> Config:
    """The configuration of plain values, read from `path`.

    Args:
        raw: all keys.
        path: names the file in messages.
        classes: see `Config`.

    Raises:
        UsageError: an unknown key (the nearest is named), or a value of another type or range.
    """
    sections = {field.name for field in fields(Sections)}
    known = [*sections, *(field.name for field in fields(Config) if field.metadata)]
    if is_of_paddleseg(raw):
        raw = _without_unread(raw, known, path)
    for key in raw:
        if key in _UNSUPPORTED:
            raise UsageError(f"{path}: '{key}': {_UNSUPPORTED[key]}")
        if key not in known:
            raise UsageError(f"{path}: unknown key '{key}'{nearest_name(str(key), known)}")
    raw = {key: value for key, value in raw.items() if value is not None}  # `--opts key=null`
    from_section(Sections, {k: v for k, v in raw.items() if k in sections}, str(path))
    raw = _with_classes(raw)
    check_keys(f"{path}: loss", raw.get("loss") or {}, ("types", "coef"))
    num_classes = (raw.get("model") or {}).get("num_classes")
    check_count(f"{path}: model.num_classes", num_classes, 1, optional=True)
    others = {key: value for key, value in raw.items() if key not in sections}
    return from_section(Config, others, str(path), path=Path(path), raw=raw, classes=classes)


def _with_classes(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The keys with `classes:` moved into the data sets; `classes: null` there keeps it out."""
    given = {key: value for key, value in raw.items() if key != "classes"}
    for section in _DATASETS if "classes" in raw else ():
        content = given.get(section)
        if isinstance(content, dict):
            given[section] = {"classes": raw["classes"], **content}
    return given


def _read_with_bases(path: Path, children: tuple[Path, ...], repeated: list[str]) -> dict[str, Any]:
    """The keys of a yml over those of its bases; `repeated` as in `common.yml.parse_yaml`."""
    require_file(path, "--config" if not children else f"{_BASE_KEY} of {children[-1]}")
    if path.resolve() in children:
        raise UsageError(f"{path}: '{_BASE_KEY}' leads back to itself")
    raw = read_sections(path, "a yml of sections ('model:', ...)", repeated)
    raw = _with_present_names(raw, path)
    bases = raw.pop(_BASE_KEY, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UsageError(
            f"{path}: '{_BASE_KEY}' must be a file or a list of files, got {shown(bases)}"
        )
    merged: dict[str, Any] = {}
    for base in bases:
        older = _read_with_bases(path.parent / base, (*children, path.resolve()), repeated)
        merged = _merge(older, merged)
    return _merge(raw, merged)


def _with_present_names(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The sections of one file with former names of keys replaced, before bases are merged.

    Raises:
        UsageError: a section has a key under both names.
    """
    present = dict(raw)
    for section, renamed in _RENAMED.items():
        content = raw.get(section)
        if not isinstance(content, dict):
            continue
        for former, name in renamed.items():
            if former in content and name in content:
                raise UsageError(
                    f"{path}: {section}: '{former}' is the former name of '{name}', and both are "
                    f"given; leave out '{former}'"
                )
        present[section] = {renamed.get(key, key): value for key, value in content.items()}
    return present


def _merge(child: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """`child` over `base`, dict by dict; `_inherited_: False` in a dict replaces it whole."""
    if child.get(_INHERITED_KEY, True) is False:
        return {key: copy.deepcopy(v) for key, v in child.items() if key != _INHERITED_KEY}
    merged = {key: copy.deepcopy(value) for key, value in base.items()}
    for key, value in child.items():
        if isinstance(value, dict):
            inherited = merged.get(key)
            merged[key] = _merge(value, inherited if isinstance(inherited, dict) else {})
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def apply_opts(raw: dict[str, Any], opts: Iterable[str]) -> None:
    """Change keys of `raw` in place by `--opts`, see `load_config`."""
    for opt in opts:
        _apply_opt(raw, opt)


def _apply_opt(raw: dict[str, Any], opt: str) -> None:
    if not isinstance(opt, str):
        raise UsageError(f"--opts: texts 'key=value' are expected, got {shown(opt)}")
    key, separator, text = opt.partition("=")
    if not separator or not key:
        raise UsageError(f"--opts: 'key=value' is expected, got '{opt}'")
    value = parse_yaml(text, f"--opts {key}")
    *parents, last = key.split(".")
    last = _RENAMED.get(".".join(parents), {}).get(last, last)
    place: Any = raw
    for depth, name in enumerate(parents):
        place = _step_into(place, name, ".".join(parents[: depth + 1]), key)
    if isinstance(place, list):
        _step_into(place, last, key, key)
        place[int(last)] = value
    elif isinstance(place, dict) and value is None and last in place:
        del place[last]
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise UsageError(f"--opts {key}: '{'.'.join(parents)}' has no keys")


def _step_into(place: Any, name: str, so_far: str, key: str) -> Any:
    if isinstance(place, dict) and name in place:
        return place[name]
    if isinstance(place, list):
        if name.isdecimal() and int(name) < len(place):
            return place[int(name)]
        raise UsageError(f"--opts {key}: '{so_far}': the list has items 0 to {len(place) - 1}")
    known = list(place) if isinstance(place, dict) else []
    raise UsageError(f"--opts {key}: there is no '{so_far}'{nearest_name(name, known)}")
