"""`paddleseg-ext data ...`: make data sets and look after them."""

import argparse
import random
from pathlib import Path
from typing import Any

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_writable, write_text
from paddleseg_ext.common.log import log
from paddleseg_ext.config import load_config
from paddleseg_ext.data.build import build_dataset
from paddleseg_ext.data.datasets import Cityscapes, SegmentationDataset, listed_problems
from paddleseg_ext.data.packed import PackedDataset, pack
from paddleseg_ext.data.prepare.converter import CONVERTERS, convert
from paddleseg_ext.data.published import pair_by_stem
from paddleseg_ext.data.survey import same_content, survey, survey_lines
from paddleseg_ext.images.functional import write_png
from paddleseg_ext.images.labels import CITYSCAPES, ClassTable, generic_table
from paddleseg_ext.images.samples import Sample, read_sample_list, write_sample_list
from paddleseg_ext.images.scenes import MIN_SIZE_WH, write_synthetic


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = flags.make_parser(__doc__ or "", "data")
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=_VerbParser)
    _add_synthetic(verbs)
    _add_check(verbs)
    _add_prepare(verbs)
    _add_index(verbs)
    _add_browse(verbs)
    _add_pack(verbs)
    return parser


def main(argv: list[str]) -> int | None:
    """Parse and hand on."""
    arguments = build_parser().parse_args(argv)
    if getattr(arguments, "opts", None) and not arguments.config:
        raise UsageError("--opts changes keys of --config")
    return arguments.run(arguments)


class _VerbParser(argparse.ArgumentParser):
    """Refuses abbreviations, as `flags.make_parser` does."""

    def __init__(self, **settings: Any):
        super().__init__(allow_abbrev=False, **settings)


def _add_synthetic(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "synthetic",
        help="draw the embedded data set",
        description="Draw street scenes in Cityscapes' own layout; a fifth is for validation.",
        formatter_class=flags.HelpFormatter,
    )
    parser.add_argument("--save_dir", type=Path, default=Path("data/cityscapes"), help="its root")
    parser.add_argument("--num_images", type=flags.positive_int, default=160, help="scenes in all")
    parser.add_argument(
        "--size", type=flags.positive_int, nargs=2, default=(384, 192), metavar=("W", "H"),
        help="width and height in pixels",
    )  # fmt: skip
    parser.add_argument("--seed", type=flags.natural_int, default=0, help="other scenes")
    parser.set_defaults(run=_synthetic)


def _synthetic(arguments: argparse.Namespace) -> None:
    save_dir = arguments.save_dir
    if save_dir.exists() and (not save_dir.is_dir() or any(save_dir.iterdir())):
        raise UsageError(f"--save_dir: '{save_dir}' is not empty; name a new folder")
    if arguments.size[0] < MIN_SIZE_WH[0] or arguments.size[1] < MIN_SIZE_WH[1]:
        raise UsageError(f"--size: at least {MIN_SIZE_WH[0]} {MIN_SIZE_WH[1]} is expected")
    if arguments.num_images < 5:
        raise UsageError("--num_images: at least 5, of which one is for validation")
    write_synthetic(save_dir, arguments.num_images, tuple(arguments.size), arguments.seed)
    log(f"{arguments.num_images} scenes in {save_dir}")


def _add_check(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "check",
        help="find every file that cannot be used",
        description="Read every image and label. Sizes, modes, class shares, mean, std and equal "
        "images are printed; missing, unreadable, empty and misshapen files and label values "
        "outside the classes are listed, all of them, with status 2.",
        formatter_class=flags.HelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="YML", help="its train_dataset and val_dataset")
    source.add_argument("--dataset_root", metavar="DIR", help="a folder in Cityscapes' layout")
    source.add_argument("--list", metavar="LIST", help="lines of 'image label'")
    parser.add_argument(
        "--num_classes", type=flags.positive_int,
        help="of --list; Cityscapes' classes unless given",
    )  # fmt: skip
    parser.add_argument("--html", type=Path, metavar="FILE", help="also as a page with pictures")
    flags.add_opts_flag(parser)
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.num_classes and not arguments.list:
        raise UsageError("--num_classes is that of --list")
    surveys = []
    for name, samples, table in _sources(arguments):
        surveys.append((survey(samples, table, name), samples))
        print("\n".join(survey_lines(surveys[-1][0])), flush=True)
    if len(surveys) > 1:
        for group in same_content([result for result, _ in surveys]):
            print(f"same image: {', '.join(group)}")
    if arguments.html:
        from paddleseg_ext.data.survey_page import survey_page

        write_text(arguments.html, survey_page(surveys))
        log(f"the page is {arguments.html}")
    problems = [line for result, _ in surveys for line in result.problems]
    if problems:
        raise UsageError(listed_problems(f"{len(problems)} files cannot be used:", problems))


def _add_index(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "index",
        help="write lists of 'image label' lines",
        description="Write train.list and val.list, for ListDataset, infer.py and val.py.",
        formatter_class=flags.HelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="YML", help="its train_dataset and val_dataset")
    source.add_argument("--dataset_root", metavar="DIR", help="a folder in Cityscapes' layout")
    source.add_argument("--images", metavar="DIR", help="any images; with --labels")
    parser.add_argument(
        "--labels", metavar="DIR", help="PNG labels whose names are those of the images"
    )
    parser.add_argument(
        "--val_share", type=flags.positive_float, default=0.1, help="of --images, drawn with --seed"
    )
    parser.add_argument("--seed", type=flags.natural_int, default=0, help="another draw")
    parser.add_argument("--save_dir", type=Path, required=True, help="where the lists go")
    flags.add_opts_flag(parser)
    parser.set_defaults(run=_index)


def _index(arguments: argparse.Namespace) -> None:
    if bool(arguments.images) != bool(arguments.labels):
        raise UsageError("--images and --labels go together")
    require_writable(arguments.save_dir, "--save_dir")
    if arguments.images:
        parts = _draw_split(arguments)
    else:
        parts = {name.split("_")[0]: samples for name, samples, _ in _sources(arguments)}
    for split, samples in parts.items():
        path = arguments.save_dir / f"{split}.list"
        write_sample_list(samples, path)
        log(f"{len(samples)} samples in {path}")


def _draw_split(arguments: argparse.Namespace) -> dict[str, list[Sample]]:
    """Any images and labels, paired by name, divided at random."""
    if arguments.val_share >= 1:
        raise UsageError(f"--val_share: below 1 expected, got {arguments.val_share}")
    samples, lonely = pair_by_stem(Path(arguments.images), Path(arguments.labels), "all")
    if lonely:
        raise UsageError(listed_problems(f"{len(lonely)} files without their partner:", lonely))
    if len(samples) < 2:
        raise UsageError(f"--images: at least 2 images expected in '{arguments.images}'")
    count = min(max(1, round(len(samples) * arguments.val_share)), len(samples) - 1)
    chosen = set(random.Random(arguments.seed).sample(range(len(samples)), count))
    parts: dict[str, list[Sample]] = {"train": [], "val": []}
    for number, sample in enumerate(samples):
        parts["val" if number in chosen else "train"].append(sample)
    return parts


def _add_browse(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "browse",
        help="a sheet of augmented samples",
        description="Draw training samples as the network sees them: after the transforms, with "
        "Normalize undone, each beside its label.",
        formatter_class=flags.HelpFormatter,
    )
    flags.add_config_flags(parser)
    parser.add_argument("--count", type=flags.positive_int, default=12, help="samples")
    parser.add_argument("--seed", type=flags.natural_int, default=0, help="other samples")
    parser.add_argument(
        "--save_path", type=Path, default=Path("output/samples.png"), help="the sheet"
    )
    parser.set_defaults(run=_browse)


def _browse(arguments: argparse.Namespace) -> None:
    from paddleseg_ext.data.contact_sheet import contact_sheet

    config = load_config(arguments.config, arguments.opts)
    dataset = build_dataset(config, "train_dataset")
    write_png(arguments.save_path, contact_sheet(dataset, arguments.count, arguments.seed))
    log(f"{arguments.count} samples of {len(dataset)} in {arguments.save_path}")


def _add_pack(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "pack",
        help="a decoded copy for fast reading",
        description="Write the pixels of train_dataset, decoded, into a few large files. Training "
        "reads them when the yml's train_dataset.dataset_root names --save_dir.",
        formatter_class=flags.HelpFormatter,
    )
    flags.add_config_flags(parser)
    parser.add_argument("--save_dir", type=Path, required=True, help="the packed copy's root")
    parser.set_defaults(run=_pack)


def _pack(arguments: argparse.Namespace) -> None:
    config = load_config(arguments.config, arguments.opts)
    dataset = build_dataset(config, "train_dataset")
    if not isinstance(dataset, SegmentationDataset) or isinstance(dataset, PackedDataset):
        raise UsageError("train_dataset: a data set of ours that is not packed yet is expected")
    pack(dataset, config.train_dataset, require_writable(arguments.save_dir, "--save_dir"))


def _add_prepare(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "prepare",
        help="convert a published data set",
        description="Convert a data set from the layout its publisher ships. The source is only "
        "read; an interrupted run goes on where it was.",
        formatter_class=flags.HelpFormatter,
    )
    parser.add_argument("name", choices=sorted(CONVERTERS), help="the data set")
    parser.add_argument("--from", dest="source", required=True, metavar="DIR", help="as published")
    parser.add_argument("--to", dest="target", required=True, metavar="DIR", help="the new root")
    parser.add_argument("--nproc", type=flags.positive_int, default=2, help="processes")
    parser.set_defaults(run=_prepare)


def _prepare(arguments: argparse.Namespace) -> None:
    convert(arguments.name, arguments.source, arguments.target, arguments.nproc)


def _sources(arguments: argparse.Namespace) -> list[tuple[str, list[Sample], ClassTable]]:
    """Name, samples and classes of what --list, --dataset_root or --config means."""
    if getattr(arguments, "list", None):
        table = generic_table(arguments.num_classes) if arguments.num_classes else CITYSCAPES
        return [(arguments.list, read_sample_list(arguments.list), table)]
    datasets: dict[str, SegmentationDataset] = {}
    if arguments.dataset_root:
        for mode in ("train", "val"):
            datasets[mode] = Cityscapes(arguments.dataset_root, mode=mode)
    else:
        config = load_config(arguments.config, arguments.opts)
        for section in ("train_dataset", "val_dataset"):
            if section in config.raw:
                datasets[section] = build_dataset(config, section)
    return [(name, d.samples, d.class_table) for name, d in datasets.items()]
