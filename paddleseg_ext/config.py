"""A yml in PaddleSeg's form -> a checked configuration, without importing Paddle.

What is checked here: the yml's syntax, duplicate and unknown keys of the top level, types and
ranges of the numbers. The arguments of a component (a model, a transform) are checked against its
constructor when it is built (`registry.build`). Nothing in a yml is ever executed.
"""

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.yml import parse_yaml, read_sections
from paddleseg_ext.scoring.metrics import AbsentRule

ABSENT_RULES = get_args(AbsentRule)

# Top-level keys and the type each must have.
SECTIONS = {
    "train_dataset": dict,
    "val_dataset": dict,
    "model": dict,
    "loss": dict,
    "optimizer": dict,
    "lr_scheduler": dict,
    "test_config": dict,
    "batch_size": int,
    "iters": int,
    "accumulate": int,
    "ema": dict,
    "freeze_bn": bool,
    "keep_best": list,
    "registry": str,
    "absent_class": str,
    "pretrained": str,
    "sync_bn": bool,
}
_KINDS = {
    dict: "a section",
    int: "a whole number",
    str: "a word",
    bool: "true or false",
    list: "a list",
}

# Former names of keys, which mean the same: section -> former name -> name.
_RENAMED = {"model": {"wiring": "variant"}}

_BASE_KEY = "_base_"
_INHERITED_KEY = "_inherited_"
# What PaddleSeg's trainer reads and this one does not, and another file's: better a sentence than
# silence.
_UNSUPPORTED = {
    "Deploy": "this is the deploy.yaml of a bundle; the yml of the training is expected",
    "distill_loss": "distillation is not part of this project",
    "to_static_training": "leave it out; the flag of train.py is --to_static True",
}


@dataclass(frozen=True)
class Config:
    """A checked configuration. Sections are plain dicts; treat them as read-only."""

    path: Path
    raw: dict[str, Any]

    def section(self, name: str) -> Any:
        """The section `name`.

        Raises:
            UsageError: the yml has none.
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
        """`loss:` with `types` and `coef`, one of each a head."""
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
        """`train_dataset:`, the data that is learnt from."""
        return self.section("train_dataset")

    @property
    def val_dataset(self) -> dict[str, Any]:
        """`val_dataset:`, the data that is scored."""
        return self.section("val_dataset")

    @property
    def test_config(self) -> dict[str, Any]:
        """`test_config:`, how to evaluate; empty when the yml has none."""
        return self.raw.get("test_config", {})

    @property
    def batch_size(self) -> int:
        """Samples a process and iteration."""
        return self.raw.get("batch_size", 1)

    @property
    def iters(self) -> int:
        """Training iterations."""
        return self.section("iters")

    @property
    def accumulate(self) -> int:
        """Batches whose gradients an iteration adds up before it steps."""
        return self.raw.get("accumulate", 1)

    @property
    def ema(self) -> dict[str, Any] | None:
        """`ema:`, see `training.ema`; None where the yml has none."""
        return self.raw.get("ema")

    @property
    def freeze_bn(self) -> bool:
        """Whether batch norms use their running statistics and leave them as they are."""
        return self.raw.get("freeze_bn", False)

    @property
    def keep_best(self) -> list[Any]:
        """Names of the protocols that training evaluates by, one best checkpoint each."""
        return self.raw.get("keep_best", [])

    @property
    def only_paddleseg(self) -> bool:
        """Whether `registry: paddleseg` makes every `type:` PaddleSeg's."""
        return self.raw.get("registry") == "paddleseg"

    @property
    def absent_class(self) -> AbsentRule:
        """How a class absent from labels and predictions counts in means (`scoring.metrics`)."""
        return self.raw.get("absent_class", "skip")

    @property
    def sync_bn(self) -> bool:
        """Whether several processes normalise by the statistics of all their batches."""
        return self.raw.get("sync_bn", True)

    @property
    def pretrained(self) -> str | None:
        """Weights to start from: a file; PaddleSeg's `model.pretrained` means the same."""
        return self.raw.get("pretrained") or self.model.get("pretrained")


def load_config(path: str | Path, opts: Iterable[str] = (), **overrides: Any) -> Config:
    """Read a yml with its `_base_` files, apply `--opts` and flags, and check the result.

    Args:
        path: the yml.
        opts: `dotted.key=value` each, values in yml syntax; list items by number.
        overrides: `iters`, `batch_size`, `accumulate`, `learning_rate`; None means "as in the yml".

    Raises:
        UsageError: naming the file, the key and what was expected.
    """
    raw = _read_with_bases(Path(path), ())
    for opt in opts:
        _apply_opt(raw, opt)
    learning_rate = overrides.pop("learning_rate", None)
    scheduler = raw.get("lr_scheduler") or {}
    if learning_rate is not None and isinstance(scheduler, dict):  # else `_check` says so
        raw["lr_scheduler"] = scheduler | {"learning_rate": learning_rate}
    raw.update({key: value for key, value in overrides.items() if value is not None})
    _check_names(raw, str(path))
    raw = {key: value for key, value in raw.items() if value is not None}  # `--opts key=null`
    _check(raw, str(path))
    return Config(Path(path), raw)


class _Loader(yaml.SafeLoader):
    """SafeLoader that also reads `1e-4` as a number and refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key_node.tag != "tag:yaml.org,2002:merge" and str(key) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            seen.add(str(key))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _read_with_bases(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    require_file(path, "--config" if not children else f"{_BASE_KEY} of {children[-1]}")
    if path.resolve() in children:
        raise UsageError(f"{path}: '{_BASE_KEY}' leads back to itself")
    raw = _with_present_names(
        read_sections(path, "a yml of sections ('model:', ...)", _Loader), path
    )
    bases = raw.pop(_BASE_KEY, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UsageError(f"{path}: '{_BASE_KEY}' must be a file or a list of files, got {bases!r}")
    merged: dict[str, Any] = {}
    for base in bases:
        merged = _merge(_read_with_bases(path.parent / base, (*children, path.resolve())), merged)
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


def _apply_opt(raw: dict[str, Any], opt: str) -> None:
    key, separator, text = opt.partition("=")
    if not separator or not key:
        raise UsageError(f"--opts: 'key=value' is expected, got '{opt}'")
    value = parse_yaml(text, f"--opts {key}", _Loader)
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


def _check_names(raw: Mapping[str, Any], source: str) -> None:
    for key in raw:
        if key in _UNSUPPORTED:
            raise UsageError(f"{source}: '{key}': {_UNSUPPORTED[key]}")
        if key not in SECTIONS:
            raise UsageError(f"{source}: unknown key '{key}'{nearest_name(str(key), SECTIONS)}")


def _check(raw: Mapping[str, Any], source: str) -> None:
    for key, value in raw.items():
        expected = SECTIONS[key]
        if not isinstance(value, expected) or isinstance(value, bool) != (expected is bool):
            raise UsageError(
                f"{source}: '{key}' must be {_KINDS[expected]}, "
                f"got {type(value).__name__}: {value!r}"
            )
    for key in ("batch_size", "iters", "accumulate"):
        if raw.get(key, 1) < 1:
            raise UsageError(f"{source}: '{key}' must be at least 1, got {raw[key]}")
    _check_word(raw, "absent_class", ABSENT_RULES, source)
    _check_word(raw, "registry", ("paddleseg", "paddleseg_ext"), source)


def _check_word(raw: Mapping[str, Any], key: str, words: Iterable[str], source: str) -> None:
    if key in raw and raw[key] not in words:
        raise UsageError(f"{source}: '{key}: {raw[key]}'{nearest_name(raw[key], words)}")
