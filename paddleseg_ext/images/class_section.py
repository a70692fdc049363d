"""The `classes:` section of a data set: names, colours, pairs, and what label values mean.

    classes:
      names: [background, road, car]
      mapping: {7: road, 26: car, others: ignored}

It changes the class table that a data set has by itself, so that everything that reads labels
(`labels.decode_label`) reads them alike: training, evaluation, inference, parity and Ray.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import UsageError, check_choice, shown
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.json_files import read_json
from paddleseg_ext.common.options import from_section, option
from paddleseg_ext.common.text import not_utf8
from paddleseg_ext.common.yml import read_sections
from paddleseg_ext.images.class_names import left_right_pairs
from paddleseg_ext.images.labels import (
    IGNORE_INDEX,
    INVALID,
    MAX_CLASSES,
    ClassTable,
    check_class_names,
    check_unknown,
    lookup_table,
)
from paddleseg_ext.images.palette import spread_palette

IGNORED = "ignored"
OTHERS = "others"
FILE = "file"
# Entries of tables that tools write for pixels without a class.
UNLABELLED_NAMES = ("void", "ignore", "__ignore__", "unlabelled", "unlabeled")
_WHICH_VALUES = "label_kind: labelIds or labelTrainIds says which values are meant"
_COLOUR = re.compile(r"(\d{1,3})\s*[, ]\s*(\d{1,3})\s*[, ]\s*(\d{1,3})|#([0-9a-fA-F]{6})")

Colour = tuple[int, int, int]
Key = int | Colour | str  # a label value, a colour, or a class of the data set


@dataclass(frozen=True)
class ClassSection:
    """The keys of a `classes:` section.

    Attributes:
        table: `ClassTable.to_dict` of a bundle or checkpoint, which is taken as it is.
    """

    names: list[str] | None = option(
        None, "of the classes, in their order; by default the mapping's, else the data set's"
    )
    palette: list | dict | None = option(None, "a colour [r, g, b] per class, or by name")
    pairs: list | None = option(None, "left and right classes that mirrored images exchange")
    ignored: int | list[int] = option(
        IGNORE_INDEX, "label values that are ignored, besides 255", at_least=0, below=256
    )
    unknown: int | None = option(
        None,
        "label value of what belongs to none of the classes: ignored in labels, and drawn in a "
        "colour of its own",
        at_least=0,
        below=255,
    )
    mapping: str | dict | None = option(
        None, "label value, colour or class of the data set -> class, or 'ignored'; or a file"
    )
    table: dict[str, Any] | None = None


def read_class_section(value: Any, root: Path, where: str) -> ClassSection:
    """The section of a yml, with its files read.

    Args:
        value: the keys, or the name of a file that has them: a yml (`classes.yml` of `data
            prepare`), a bundle's deploy.yaml, or a checkpoint's manifest (`.pdparams.json`).
        root: file names are relative to it, or to the working directory.
        where: the section's place in messages.

    Returns:
        The section; its mapping holds plain keys and values and no file.

    Raises:
        MissingData: a named file does not exist.
        UsageError: a key is unknown, or a value of the wrong kind.
    """
    if isinstance(value, str | Path):
        path = _located(value, root)
        content = _content(require_file(path, where))
        value, where = _classes_in(content), f"{path}: classes"
        if isinstance(value, Mapping) and "class_names" in value:
            table = ClassTable.from_dict(value, where)
            return ClassSection(list(table.class_names), table=table.to_dict())
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: a section, or the name of a yml, is expected: {shown(value)}")
    section = from_section(ClassSection, value, where)
    if section.names is not None:
        check_class_names(f"{where}: names", section.names)
        if len(section.names) > MAX_CLASSES:
            found = len(section.names)
            raise UsageError(f"{where}: names: at most {MAX_CLASSES} are expected, got {found}")
    mapping = section.mapping
    if isinstance(mapping, str):
        mapping = {FILE: mapping}
    return replace(section, mapping=None if mapping is None else _with_file(mapping, root, where))


def _content(path: Path) -> dict[str, Any]:
    """A yml, or a checkpoint's manifest."""
    if path.suffix != ".json":
        return read_sections(path, "a `classes:` section")
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: no manifest can be read: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("classes"), dict):
        raise UsageError(f"{path}: a checkpoint's manifest with its classes is expected")
    return content


def _classes_in(content: Mapping[str, Any]) -> Any:
    """The section of a yml, the class table of a deploy.yaml or of a checkpoint's manifest."""
    for key in ("Manifest", "postprocess"):
        inner = content.get(key)
        content = inner if isinstance(inner, Mapping) else content
    return content.get("classes", content)


def _located(name: Any, root: Path) -> Path:
    inside = root / str(name)
    return inside if inside.exists() else Path(str(name))


def _with_file(mapping: Mapping[Any, Any], root: Path, where: str) -> dict[Any, Any]:
    """The mapping; where a table's file is named, its names are replaced by its values."""
    if FILE not in mapping:
        return dict(mapping)
    path = require_file(_located(mapping[FILE], root), f"{where}: mapping")
    table = read_table(path)
    own = {key: target for key, target in mapping.items() if key != FILE}
    for key in own:
        if key != OTHERS and isinstance(key, str):
            check_choice(f"{where}: mapping: {path.name}", key, table, "class")
    if not own.keys() - {OTHERS}:
        chosen = {n: IGNORED if n.lower() in UNLABELLED_NAMES else n for n in table}
        own = {**chosen, **own}
    pairs = [(k, target) for key, target in own.items() for k in table.get(key, [key])]
    result: dict[Any, Any] = _unambiguous(pairs, f"{where}: mapping: {path.name}")
    for name in table.keys() - own.keys():  # not mentioned: known, so that messages are of colours
        if OTHERS not in own:
            raise UsageError(f"{where}: mapping: '{name}' of {path.name} is not in it; or others:")
    return result


def _unambiguous(pairs: Iterable[tuple[Any, Any]], where: str) -> dict[Any, Any]:
    """A mapping of these keys and targets.

    Raises:
        UsageError: a label value or colour stands twice, with different targets.
    """
    result: dict[Any, Any] = {}
    for key, target in pairs:
        if result.setdefault(key, target) != target:
            colour = isinstance(key, tuple)
            what = "colour " + ",".join(map(str, key)) if colour else f"label value {shown(key)}"
            raise UsageError(
                f"{where}: the {what} is both {shown(result[key])} and {shown(target)}; give it one"
            )
    return result


def read_table(path: Path) -> dict[str, list[Any]]:
    """Colours or values by class name, from a table that a tool wrote.

    Known are CVAT's `labelmap.txt` (name:r,g,b:parts:actions), `class_dict.csv` of CamVid and
    others (name,r,g,b with a first line that says so) and Roboflow's `_classes.csv` (value, name).

    Raises:
        UsageError: it is none of these, or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"'{path}': a table of classes cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"'{path}': {not_utf8(error)}") from None
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    result: dict[str, list[Any]] = {}
    for number, line in enumerate(lines):
        fields = [field.strip() for field in next(csv.reader([line]))]
        numbers = [field for field in fields if field.isdecimal()]
        if path.suffix == ".txt":
            name, _, rest = line.partition(":")
            key: Any = _colour(rest.partition(":")[0])
        elif len(fields) == 4 and len(numbers) >= 3:
            name, key = fields[0], _colour(",".join(fields[1:]))
        elif len(fields) == 2 and fields[0].isdecimal():
            name, key = fields[1], int(fields[0])
        elif number == 0 and not numbers:
            continue  # the first line of a CSV
        else:
            key = name = None
        if key is None or not name:
            raise UsageError(
                f"'{path}': a line 'name,r,g,b', 'value,name' or 'name:r,g,b:parts:actions' is "
                f"expected, got {shown(line)}"
            )
        result.setdefault(name.strip(), []).append(key)
    if not result:
        raise UsageError(f"'{path}': no class is in it")
    return result


def _colour(text: str) -> Colour | None:
    """The colour of `128,64,128` or `#804080`."""
    found = _COLOUR.fullmatch(text.strip())
    if found is None:
        return None
    if found[4]:
        red, green, blue = bytes.fromhex(found[4])
        return red, green, blue
    values = int(found[1]), int(found[2]), int(found[3])
    return values if max(values) <= 255 else None


def apply_classes(
    section: ClassSection, base: ClassTable, where: str, values_differ: bool = False
) -> ClassTable:
    """A data set's class table, changed by a section.

    Args:
        section: from `read_class_section`.
        base: the data set's own table.
        where: the section's place in messages.
        values_differ: the label files may be of several kinds, so that numbers in the mapping
            would be ambiguous.

    Raises:
        UsageError: names, colours, pairs or mapping do not fit each other or the data set.
    """
    if section.table is not None:
        return ClassTable.from_dict(section.table, where)
    mapping = dict(section.mapping) if isinstance(section.mapping, dict) else {}
    others = mapping.pop(OTHERS, None)
    pairs = ((_key(key, base, where), target) for key, target in mapping.items())
    keys = _unambiguous(pairs, f"{where}: mapping")
    targets = [t for t in [*keys.values(), others] if isinstance(t, str) and t != IGNORED]
    names = tuple(section.names or dict.fromkeys(targets) or _numbered(keys, base))
    if not 1 <= len(names) <= MAX_CLASSES or len(set(names)) < len(names):
        raise UsageError(f"{where}: 1 to {MAX_CLASSES} different names expected: {shown(names)}")
    if section.mapping is None and len(names) != base.num_classes:
        raise UsageError(
            f"{where}: names: {base.num_classes} expected, as the data set has, got {len(names)}; "
            "to merge or drop classes, give a mapping"
        )
    ignored = {section.ignored} if isinstance(section.ignored, int) else set(section.ignored)
    unknown = check_unknown(section.unknown, len(names), ignored, where)
    ignored |= set() if unknown is None else {unknown}
    known = {key: _target(target, names, ignored, where) for key, target in keys.items()}
    for value in sorted(ignored - {IGNORE_INDEX}):
        if known.get(value, IGNORE_INDEX) != IGNORE_INDEX:
            raise UsageError(
                f"{where}: label value {value} is ignored, and class {shown(keys[value])} of the "
                "mapping; take it out of one of the two"
            )
    rest = INVALID if others is None else _target(others, names, ignored, where)
    table = replace(
        base,
        class_names=names,
        palette=_palette(section, known, names, base, where),
        left_right=left_right_pairs(names),
        unknown=unknown,
    )
    if section.mapping is not None:
        table = _mapped(table, base, known, rest, ignored, where, values_differ)
    elif ignored - {IGNORE_INDEX}:
        if values_differ:
            raise UsageError(f"{where}: ignored: {_WHICH_VALUES}")
        own = np.arange(256, dtype=np.uint8) if base.label_lookup is None else base.label_lookup
        lookup = np.where(own < base.num_classes, own, INVALID).astype(np.uint8)
        lookup[own == IGNORE_INDEX] = IGNORE_INDEX
        lookup[list(ignored)] = IGNORE_INDEX
        table = replace(table, label_lookup=lookup, lookup_suffix="")
    return table.with_left_right(section.pairs, f"{where}: pairs")


def _numbered(keys: Mapping[Key, Any], base: ClassTable) -> tuple[str, ...]:
    """Names where neither section nor mapping has any."""
    numbers = [target for target in keys.values() if isinstance(target, int) and target < 255]
    if not numbers:
        return base.class_names
    return tuple(f"class_{index}" for index in range(max(numbers) + 1))


def _key(key: Any, base: ClassTable, where: str) -> Key:
    if isinstance(key, tuple):
        return key
    if isinstance(key, int) and not isinstance(key, bool):
        if not 0 <= key <= 255:
            raise UsageError(f"{where}: mapping: label values are 0 to 255, got {key}")
        return key
    if isinstance(key, str):
        if key.isdecimal() and len(key) <= 3:  # JSON has no other keys than texts
            return _key(int(key), base, where)
        if colour := _colour(key):
            return colour
        check_choice(f"{where}: mapping", key, base.class_names, "class")
        return key
    raise UsageError(f"{where}: mapping: a value, colour or class is expected: {shown(key)}")


def _target(target: Any, names: tuple[str, ...], ignored: set[int], where: str) -> int:
    is_number = isinstance(target, int) and not isinstance(target, bool)
    if is_number and 0 <= target < len(names):  # a class, also where a label's 0 is ignored
        return target
    if target == IGNORED or (is_number and target in ignored | {IGNORE_INDEX}):
        return IGNORE_INDEX
    if isinstance(target, str):
        check_choice(f"{where}: mapping", target, names, "class")
        return names.index(target)
    raise UsageError(
        f"{where}: mapping: a class, its number below {len(names)}, or '{IGNORED}' is expected, "
        f"got {shown(target)}"
    )


def _palette(
    section: ClassSection,
    known: Mapping[Key, int],
    names: tuple[str, ...],
    base: ClassTable,
    where: str,
) -> np.ndarray:
    given = section.palette
    if isinstance(given, dict):
        for name in given:
            check_choice(f"{where}: palette", name, names, "class")
        given = [given.get(name) for name in names]
    if given is not None:
        try:
            array = np.array(given)
        except ValueError:
            array = np.zeros(0)
        fits = array.shape == (len(names), 3) and array.dtype.kind in "iu"
        if not fits or array.min() < 0 or array.max() > 255:
            raise UsageError(f"{where}: palette: {len(names)} colours [r, g, b] are expected")
        return array.astype(np.uint8)
    if names == base.class_names:
        return base.palette
    palette = spread_palette(len(names))
    own = [base.class_names.index(name) for name in names if name in base.class_names]
    if len(own) == len(names):
        palette = base.palette[own]
    for key, index in reversed(list(known.items())):  # the first colour of a class is its own
        if isinstance(key, tuple) and index < len(names):
            palette[index] = key
    return palette


def _mapped(
    table: ClassTable,
    base: ClassTable,
    known: Mapping[Key, int],
    rest: int,
    ignored: set[int],
    where: str,
    values_differ: bool,
) -> ClassTable:
    """The table with the mapping as its lookup."""
    kinds = {type(key) for key in known}
    if len(kinds) != 1:
        raise UsageError(
            f"{where}: mapping: either label values, or colours, or classes of the data set are "
            "expected as keys, at least one"
        )
    if kinds == {tuple}:
        rows = [[*key, index] for key, index in known.items() if isinstance(key, tuple)]
        colours = np.array(rows, np.uint8)
        return replace(
            table, label_colours=colours, other_colours=rest, label_lookup=None, lookup_suffix=""
        )
    if kinds == {int}:
        if values_differ:
            raise UsageError(f"{where}: mapping: {_WHICH_VALUES}; or map the names of the classes")
        values = {key: index for key, index in known.items() if isinstance(key, int)}
        lookup = lookup_table(values, ignored=ignored - values.keys())
        if IGNORE_INDEX in values:
            lookup[IGNORE_INDEX] = values[IGNORE_INDEX]
        lookup[lookup == INVALID] = rest
        return replace(table, label_lookup=lookup, lookup_suffix="")
    classes = {base.class_names.index(key): i for key, i in known.items() if isinstance(key, str)}
    left = [name for index, name in enumerate(base.class_names) if index not in classes]
    if left and rest == INVALID:
        raise UsageError(f"{where}: mapping: not in it: {', '.join(left)}; name them, or others:")
    classes |= {base.class_names.index(name): rest for name in left}
    return replace(table, class_lookup=lookup_table(classes, ignored=set()))
