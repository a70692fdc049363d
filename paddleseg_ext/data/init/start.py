"""From folders of images and labels to lists and a yml that trains as it stands."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from paddleseg_ext.common.errors import UsageError, require_none, shortened
from paddleseg_ext.common.files import require_writable, write_bytes
from paddleseg_ext.common.flags import natural_float, positive_int
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.options import CheckedOptions, option
from paddleseg_ext.data.init.classes import LabelClasses, classes_of_labels
from paddleseg_ext.data.init.pairs import Places, divide, find_pairs
from paddleseg_ext.data.init.recipe import NETWORKS, network_of, recipe_for
from paddleseg_ext.data.init.text import yml_text
from paddleseg_ext.data.parts import Part
from paddleseg_ext.data.splitting import Grouping
from paddleseg_ext.data.survey import Survey, same_content, survey, survey_lines
from paddleseg_ext.images.orientation import Orientation
from paddleseg_ext.images.samples import Sample, sample_list

Ask = Callable[[str], str]


@dataclass(frozen=True)
class InitOptions(CheckedOptions):
    """Options of `data init`: what the files do not show, and what replaces its own choice."""

    network: str = option(
        "bisenetv2", f"{', '.join(NETWORKS)}, or a shipped configuration whose network is meant"
    )
    images: str | None = option(None, "folder of the images, below FOLDER", metavar="DIR")
    labels: str | None = option(None, "folder of the labels, below FOLDER", metavar="DIR")
    image_suffix: str | None = option(None, "end of the images' names, such as _leftImg8bit.png")
    label_suffix: str | None = option(None, "end of the labels' names, such as _mask.png")
    val_share: float | None = option(
        None,
        "of all images for validation, 0 to 1; by default FOLDER's own val, else a tenth",
        parse=natural_float,
    )
    split_by: Grouping = option(
        "name", "what stays together: nothing, a folder, or a sequence (names but the last number)"
    )
    classes: Path | None = option(
        None, "a yml with `classes:`, or labelmap.txt, class_dict.csv ...", metavar="FILE"
    )
    names: list[str] | None = option(None, "of the classes, in their order", metavar="NAME")
    iters: int | None = option(
        None, "of the training; by default 100 epochs, 1,000 to 80,000", parse=positive_int
    )
    overwrite: bool = option(False, "replace lists and yml that exist with another content")


def init(
    folder: str | Path, save_dir: str | Path, options: InitOptions, ask: Ask | None = None
) -> Path:
    """Write lists and a yml for a folder of images and labels.

    Args:
        folder: is only read.
        save_dir: gets `train.list`, `val.list`, `test.list` and `NETWORK.yml`.
        options: see `InitOptions`.
        ask: reads a line from a terminal; None where there is none.

    Returns:
        The yml.

    Raises:
        UsageError: no pair is found, a file cannot be used, or the classes are not clear. Nothing
            is written, nor where a file would be replaced by another.
    """
    root, save_dir = Path(folder), Path(save_dir)
    if not str(save_dir).isprintable():
        raise UsageError(f"--save_dir: {str(save_dir)!r} has a letter that cannot be printed")
    config = network_of(options.network)
    if options.val_share is not None and options.val_share > 1:
        raise UsageError(f"--val_share: 0 to 1 expected, got {options.val_share}")
    places = Places(options.images, options.labels, options.image_suffix, options.label_suffix)
    found = find_pairs(root, places)
    splits = divide(found, options.val_share, options.split_by)
    if found.left_out:
        warn(f"{len(found.left_out)} files without partner left out: {shortened(found.left_out)}")
    if found.hint:
        warn(found.hint)
    samples = [sample for part in splits.values() for sample in part if sample.label]
    classes = _named(root, samples, options, ask)
    surveys = _surveys(splits, classes)
    yml = save_dir / f"{Path(options.network).stem}.yml"
    known = {split: each for split, each in surveys.items() if split != "test"}
    if not known:
        raise UsageError(f"data init: all images of '{root}' are for test; give --val_share")
    recipe = recipe_for(next(iter(known.values())), options.iters)
    lists = {save_dir / f"{split}.list": part for split, part in splits.items()}
    files = {path: sample_list(part, path) for path, part in lists.items()}
    files[yml] = yml_text(yml, config, recipe, known, classes.section).encode()
    _write(files, options.overwrite)
    for path, part in lists.items():
        log(f"{len(part)} samples in {path}")
    log(f"{classes.table.num_classes} classes, from {classes.source}")
    name = shlex.quote(str(yml))
    if "train" in known:
        log(f"train: paddleseg-ext train --config {name} --do_eval --save_dir output/{yml.stem}")
    else:
        log(f"val: paddleseg-ext val --config {name} --model_path FILE.pdparams")
    return yml


def _write(files: Mapping[Path, bytes], overwrite: bool) -> None:
    """Write the files, or none where one exists with another content: it may have been edited."""
    changed = [str(path) for path, new in files.items() if path.exists() and _read(path) != new]
    if changed and not overwrite:
        raise UsageError(
            f"data init: {', '.join(changed)}: exists with another content; --overwrite replaces "
            "it, or give another --save_dir"
        )
    for path, new in files.items():
        require_writable(path.parent, "--save_dir")
        write_bytes(path, new)


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _named(
    root: Path, samples: list[Sample], options: InitOptions, ask: Ask | None
) -> LabelClasses:
    """The classes, with a person's names where nothing else has them."""
    classes = classes_of_labels(root, samples, options.classes, options.names)
    if classes.named:
        return classes
    own = classes.table.class_names
    if ask is not None:
        line = ask(f"names of the {len(own)} classes, with commas between [{', '.join(own)}]: ")
        if line.strip():
            names = [name.strip() for name in line.split(",")]
            return classes_of_labels(root, samples, options.classes, names)
    warn(f"the classes have no names, and are called {', '.join(own)}; --names gives others")
    return classes


def _surveys(splits: dict[str, list[Sample]], classes: LabelClasses) -> dict[str, Survey]:
    """Print the survey of each part and return them; list all files that cannot be used.

    Labels that were drawn on pictures as viewers show them fit only where the orientation tag is
    applied; then it is.
    """
    surveys: dict[str, Survey] = {}
    for orientation in get_args(Orientation):
        found = {
            split: survey(Part(split, samples, classes.table, orientation))
            for split, samples in splits.items()
        }
        if not surveys or _problems(found) < _problems(surveys):
            surveys = found
        if not _problems(surveys):
            break
    for each in surveys.values():
        print("\n".join(survey_lines(each)), flush=True)
    for group in same_content(list(surveys.values())) if len(surveys) > 1 else []:
        warn(f"same image: {', '.join(group)}")
    problems = [line for each in surveys.values() for line in each.problems]
    require_none(problems, f"{len(problems)} files cannot be used:")
    for split, each in surveys.items():
        if fault := each.label_counts.fault():
            raise UsageError(f"{split}: {fault}")
    return surveys


def _problems(surveys: dict[str, Survey]) -> int:
    return sum(len(each.problems) for each in surveys.values())
