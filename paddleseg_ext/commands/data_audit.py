"""`paddleseg-ext data audit`: find labels that are probably wrong, copies and leaks."""

import argparse

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import STATUS_DONE, STATUS_FAILED
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.config import load_config
from paddleseg_ext.evaluation.audit import AuditOptions, audit, audit_lines


def add_audit_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `data audit`."""
    flags.add_config_flags(parser)
    text = "a checkpoint of the yml's network; without it only copies and leaks are looked for"
    parser.add_argument("--weights", metavar="PDPARAMS", help=text)
    add_options(parser, AuditOptions)
    flags.add_device_flag(parser)


def run_audit(arguments: argparse.Namespace) -> int:
    """Rank the labels of train_dataset and val_dataset by how probably they are wrong.

    Where the network is sure of a class and the label says another, one of them is wrong. The
    regions are in SAVE_DIR/regions.csv, the images in images.csv, the worst with pictures in
    audit.html. Images that show the same, also re-encoded, resized or mirrored, are in
    duplicates.csv; pairs between training and validation (leaks) come first.
    """
    config = load_config(arguments.config, arguments.opts)
    options = read_options(AuditOptions, arguments)
    result = audit(config, arguments.weights, options, arguments.device)
    print("\n".join(audit_lines(result)), flush=True)
    for line in result.problems:
        log(line, "ERROR")
    log(f"tables{' and audit.html' if result.parts else ''} written to {options.save_dir}")
    return STATUS_FAILED if result.problems else STATUS_DONE
