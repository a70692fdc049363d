"""`python -m paddleseg_ext data ...`: make data sets and look after them."""

import argparse
from pathlib import Path

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.config import load_config
from paddleseg_ext.data.build import build_dataset
from paddleseg_ext.data.datasets import Cityscapes, SegmentationDataset
from paddleseg_ext.data.labels import CITYSCAPES, ClassTable, generic_table
from paddleseg_ext.data.prepare.converter import CONVERTERS, convert
from paddleseg_ext.data.samples import Sample, read_sample_list
from paddleseg_ext.data.synthetic import MIN_SIZE_WH, write_synthetic
from paddleseg_ext.data.validate import require_usable


def main(argv: list[str]) -> int | None:
    """Parse and hand on."""
    parser = flags.make_parser(__doc__ or "")
    parser.prog = "python -m paddleseg_ext data"
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_synthetic(verbs)
    _add_check(verbs)
    _add_prepare(verbs)
    arguments = parser.parse_args(argv)
    return arguments.run(arguments)


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
        description="Read every image and label: missing, unreadable, empty and misshapen files "
        "and label values outside the classes are listed, all of them; status 2 if there are any.",
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
    flags.add_opts_flag(parser)
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> None:
    for name, samples, table in _sources(arguments):
        require_usable(samples, table, name)
        log(f"{name}: {len(samples)} images and their labels can be used")


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
    if arguments.list:
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
