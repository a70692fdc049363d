"""`paddleseg-ext data ...`: make data sets, check them and convert them."""

import argparse
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import UsageError, require_none
from paddleseg_ext.common.files import require_writable, write_text
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.config import load_config
from paddleseg_ext.data.build import build_dataset
from paddleseg_ext.data.contact_sheet import SheetOptions, contact_sheet
from paddleseg_ext.data.frames import FrameOptions, write_frames
from paddleseg_ext.data.init.start import InitOptions, init
from paddleseg_ext.data.packed import pack
from paddleseg_ext.data.parts import (
    Part,
    SplitOptions,
    part_of_list,
    parts_of_cityscapes,
    parts_of_config,
    split_pairs,
)
from paddleseg_ext.data.prepare.converter import CONVERTERS, convert
from paddleseg_ext.data.prepare.exports import FORMS, AnnotationOptions, convert_export
from paddleseg_ext.data.survey import same_content, survey, survey_lines
from paddleseg_ext.images.functional import write_png
from paddleseg_ext.images.samples import write_sample_list
from paddleseg_ext.images.scenes import SceneOptions, write_synthetic


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `data`."""
    parser = flags.make_parser(__doc__, "data")
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_synthetic(verbs)
    _add_check(verbs)
    _add_init(verbs)
    _add_prepare(verbs)
    _add_index(verbs)
    _add_browse(verbs)
    _add_pack(verbs)
    _add_frames(verbs)
    _add_audit(verbs)
    return parser


def main(argv: list[str]) -> int | None:
    """Parse, and run the verb."""
    arguments = build_parser().parse_args(argv)
    if getattr(arguments, "opts", None) and not arguments.config:
        raise UsageError("--opts changes keys of --config")
    return arguments.run(arguments)


def _add_verb(
    verbs: argparse._SubParsersAction, run: Callable[[argparse.Namespace], None], summary: str
) -> argparse.ArgumentParser:
    """Adds the verb that `run` is named after, and which its docstring describes."""
    name = run.__name__.removeprefix("_")
    parser = verbs.add_parser(name, help=summary, description=inspect.getdoc(run))
    parser.set_defaults(run=run)
    return parser


def _add_source(parser: argparse.ArgumentParser, other: str, metavar: str, text: str) -> None:
    """`--config` with `--opts`, `--dataset_root`, or another flag."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="YML", help="its train_dataset and val_dataset")
    source.add_argument("--dataset_root", metavar="DIR", help="a folder in Cityscapes' layout")
    source.add_argument(other, metavar=metavar, help=text)
    flags.add_opts_flag(parser)


def _parts(arguments: argparse.Namespace) -> list[Part]:
    if arguments.dataset_root:
        return parts_of_cityscapes(arguments.dataset_root)
    return parts_of_config(load_config(arguments.config, arguments.opts))


def _add_synthetic(verbs: argparse._SubParsersAction) -> None:
    parser = _add_verb(verbs, _synthetic, "draw the embedded data set")
    parser.add_argument("--save_dir", type=Path, default=Path("data/cityscapes"), help="its root")
    add_options(parser, SceneOptions)


def _synthetic(arguments: argparse.Namespace) -> None:
    """Draw street scenes in Cityscapes' own layout; a fifth is for validation."""
    write_synthetic(arguments.save_dir, read_options(SceneOptions, arguments))
    log(f"{arguments.num_images} scenes in {arguments.save_dir}")


def _add_check(verbs: argparse._SubParsersAction) -> None:
    parser = _add_verb(verbs, _check, "find every file that cannot be used")
    _add_source(parser, "--list", "LIST", "lines of 'image label'")
    text = "of --list; Cityscapes' classes unless given"
    parser.add_argument("--num_classes", type=flags.positive_int, help=text)
    text = "of --list: a yml with a `classes:` section, or class_dict.csv, labelmap.txt ..."
    parser.add_argument("--classes", metavar="FILE", help=text)
    parser.add_argument("--html", type=Path, metavar="FILE", help="also as a page with pictures")


def _check(arguments: argparse.Namespace) -> None:
    """Read every image and label.

    Sizes, modes, class shares, mean, std and equal images are printed. Missing, unreadable, empty
    and misshapen files and label values outside the classes are all listed, with status 2, and so
    are labels that cannot be meant: void everywhere, or masks of 0 and 255 where 255 is ignored.
    """
    for flag in ("num_classes", "classes"):
        if getattr(arguments, flag) and not arguments.list:
            raise UsageError(f"--{flag} is that of --list")
    if arguments.html and arguments.html.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html: a name that ends in .html is expected, got '{arguments.html}'")
    if arguments.list:
        parts = [part_of_list(arguments.list, arguments.num_classes, arguments.classes)]
    else:
        parts = _parts(arguments)
    surveys = []
    for part in parts:
        surveys.append(survey(part))
        print("\n".join(survey_lines(surveys[-1])), flush=True)
    for group in same_content(surveys) if len(surveys) > 1 else []:
        print(f"same image: {', '.join(group)}")
    if arguments.html:
        from paddleseg_ext.data.survey_page import survey_page

        write_text(arguments.html, survey_page(surveys))
        log(f"the page is {arguments.html}")
    problems = [line for result in surveys for line in result.problems]
    require_none(problems, f"{len(problems)} files cannot be used:")
    faults = [(result.part.name, result.label_counts.fault()) for result in surveys]
    for name, fault in faults:
        if fault:
            raise UsageError(f"{name}: {fault}")


def _add_index(verbs: argparse._SubParsersAction) -> None:
    parser = _add_verb(verbs, _index, "write lists of 'image label' lines")
    _add_source(parser, "--images", "DIR", "any images; with --labels")
    parser.add_argument(
        "--labels", metavar="DIR", help="labels whose paths below it are those of the images"
    )
    add_options(parser, SplitOptions)
    parser.add_argument("--save_dir", type=Path, required=True, help="where the lists go")


def _index(arguments: argparse.Namespace) -> None:
    """Write train.list and val.list, for ListDataset, infer.py and val.py."""
    if bool(arguments.images) != bool(arguments.labels):
        raise UsageError("--images and --labels go together")
    require_writable(arguments.save_dir, "--save_dir")
    if arguments.images:
        options = read_options(SplitOptions, arguments)
        lists = split_pairs(arguments.images, arguments.labels, options)
    else:
        lists = {part.name.removesuffix("_dataset"): part.samples for part in _parts(arguments)}
    for split, samples in lists.items():
        path = arguments.save_dir / f"{split}.list"
        write_sample_list(samples, path)
        log(f"{len(samples)} samples in {path}")


def _add_browse(verbs: argparse._SubParsersAction) -> None:
    parser = _add_verb(verbs, _browse, "a sheet of augmented samples")
    flags.add_config_flags(parser)
    add_options(parser, SheetOptions)
    parser.add_argument(
        "--save_path", type=Path, default=Path("output/samples.png"), help="the sheet"
    )


def _browse(arguments: argparse.Namespace) -> None:
    """Draw training samples as the network sees them.

    That is after the transforms, with Normalize undone, each beside its label.
    """
    config = load_config(arguments.config, arguments.opts)
    dataset = build_dataset(config, "train_dataset")
    write_png(arguments.save_path, contact_sheet(dataset, read_options(SheetOptions, arguments)))
    log(f"{arguments.count} samples of {len(dataset)} in {arguments.save_path}")


def _add_pack(verbs: argparse._SubParsersAction) -> None:
    parser = _add_verb(verbs, _pack, "a decoded copy for fast reading")
    flags.add_config_flags(parser)
    parser.add_argument("--save_dir", type=Path, required=True, help="the packed copy's root")


def _pack(arguments: argparse.Namespace) -> None:
    """Write the pixels of train_dataset, decoded, into a few large files.

    Training reads them when the yml's train_dataset.dataset_root names --save_dir.
    """
    config = load_config(arguments.config, arguments.opts)
    pack(build_dataset(config, "train_dataset"), config.train_dataset, arguments.save_dir)


def _add_frames(verbs: argparse._SubParsersAction) -> None:
    parser = _add_verb(verbs, _frames, "write frames of a video as images, with a list")
    parser.add_argument("video", metavar="VIDEO", help="the file")
    add_options(parser, FrameOptions)
    parser.add_argument("--save_dir", type=Path, required=True, help="where the frames go")


def _frames(arguments: argparse.Namespace) -> None:
    """Write frames as PNG, and frames.list.

    The list is for infer.py and labelling tools. An interrupted run goes on.
    """
    write_frames(arguments.video, arguments.save_dir, read_options(FrameOptions, arguments))


def _add_audit(verbs: argparse._SubParsersAction) -> None:
    from paddleseg_ext.commands.data_audit import add_audit_flags, run_audit

    summary = "find labels that are probably wrong, copies and leaks"
    parser = verbs.add_parser("audit", help=summary, description=inspect.getdoc(run_audit))
    parser.set_defaults(run=run_audit)
    add_audit_flags(parser)


def _add_init(verbs: argparse._SubParsersAction) -> None:
    parser = _add_verb(verbs, _init, "a yml that trains, for folders of images and labels")
    parser.add_argument("folder", metavar="FOLDER", help="images and labels, however laid out")
    parser.add_argument(
        "--save_dir", type=Path, required=True, help="where the lists and the yml go"
    )
    add_options(parser, InitOptions)


def _init(arguments: argparse.Namespace) -> None:
    """Write lists and a complete yml, with comments, that trains as it stands.

    FOLDER has images and labels in folders of their own (images/ and labels/, masks/ ..., with or
    without train/ and val/), masks beside their images (f0.jpg, f0_mask.png), or is what `data
    prepare` wrote. Classes come from classes.yml, labelmap.txt, _classes.csv or class_dict.csv in
    it, else from the values or colours of the labels. Every file is read once. FOLDER is only read.
    """
    ask = input if sys.stdin.isatty() and sys.stdout.isatty() else None
    init(arguments.folder, arguments.save_dir, read_options(InitOptions, arguments), ask)


def _add_prepare(verbs: argparse._SubParsersAction) -> None:
    parser = _add_verb(verbs, _prepare, "convert a published data set, or a tool's export")
    names = [*sorted(CONVERTERS), *sorted(FORMS)]
    parser.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--from", dest="source", required=True, metavar="DIR", help="as published")
    parser.add_argument("--to", dest="target", required=True, metavar="DIR", help="the new root")
    parser.add_argument("--nproc", type=flags.positive_int, default=2, help="processes")
    add_options(parser.add_argument_group("exports of annotation tools"), AnnotationOptions)


def _prepare(arguments: argparse.Namespace) -> None:
    """Convert a data set from its publisher's layout, or the export of an annotation tool.

    An export becomes images, labels, lists and classes.yml; what is in it and what is left out is
    counted. The source is only read. An interrupted run continues.
    """
    options = read_options(AnnotationOptions, arguments)
    where = (arguments.source, arguments.target)
    if arguments.name in FORMS:
        convert_export(arguments.name, *where, options, arguments.nproc)
        return
    if options != AnnotationOptions():
        raise UsageError(f"data prepare {arguments.name}: takes --from, --to and --nproc only")
    convert(arguments.name, *where, arguments.nproc)
