"""The front door: `paddleseg-ext VERB ...`, also `python -m paddleseg_ext VERB ...`."""

import importlib
import sys
from argparse import ArgumentParser
from types import ModuleType

from paddleseg_ext.common.errors import UsageError, nearest_name, run_command
from paddleseg_ext.common.packages import how_to_install
from paddleseg_ext.common.version import __version__

PROGRAM = "paddleseg-ext"
HOST_PACKAGES = ("paddle", "visualdl")  # the base installation has none of them
# verb -> (module with `main(argv) -> int | None`, what it does)
VERBS = {
    "train": ("train", "train the network that a yml describes"),
    "val": ("val", "score a checkpoint on labelled images, by a named protocol"),
    "predict": ("predict", "label maps and overlays from a checkpoint"),
    "export": ("export", "convert a checkpoint to a bundle, and check it"),
    "infer": ("infer", "run an exported bundle on images, a video or a camera"),
    "parity": ("parity", "compare an exported bundle with its network"),
    "tune": ("tune", "find the fastest runtime that predicts a bundle's label maps"),
    "bench": ("bench", "speed, memory and parts of bundles on runtimes, in turns"),
    "calibrate": ("calibrate", "temperatures for a bundle's confidence, fitted and judged"),
    "quantize": ("quantize", "an INT8 graph for a bundle, judged"),
    "serve": ("serve", "predict images over HTTP, with a page"),
    "config": ("config", "list the shipped configurations, or show one whole"),
    "data": ("data", "make, check and inspect data sets"),
    "import": ("import_weights", "turn a published checkpoint into ours"),
    "doctor": ("doctor", "a network's parameters, multiply-adds, strides; or what is installed"),
    "curves": ("curves", "losses, rate and mIoU of training runs, as a picture or text"),
    "table": ("table", "runs as a table: cost, speed, mIoU over seeds"),
    "reproduce": ("reproduce", "what repeats a run, and what differs here"),
    "demo": ("demo", "the whole way on embedded data, with a report"),
    "tipc": ("tipc", "prepare, show and run TIPC chains; needs a checkout"),
}


def main(argv: list[str]) -> int | None:
    """Run the verb with the rest of the command line; returns its exit status.

    Raises:
        UsageError: an unknown verb (the nearest is named), or one that needs Paddle or PaddleSeg
            where they are not installed.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: {PROGRAM} VERB ...\n")
        for verb, (_, summary) in VERBS.items():
            print(f"  {verb:<10} {summary}")
        print(f"\n{PROGRAM} VERB --help describes a verb; {PROGRAM} --version prints the version.")
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"{PROGRAM} {__version__}")
        return 0
    if argv[0] not in VERBS:
        raise UsageError(f"unknown verb '{argv[0]}'{nearest_name(argv[0], VERBS)}")
    try:
        return _module_of(argv[0]).main(argv[1:])
    except ModuleNotFoundError as error:
        if error.name not in HOST_PACKAGES:
            raise
        raise UsageError(
            f"{argv[0]}: {error.name} is not installed: {how_to_install('cpu')}"
        ) from None


def parser_of(verb: str) -> ArgumentParser:
    """Returns the parser of a verb."""
    return _module_of(verb).build_parser()


def _module_of(verb: str) -> ModuleType:
    return importlib.import_module(f"paddleseg_ext.commands.{VERBS[verb][0]}")


def run(*verb: str) -> None:
    """Run `main` on the verb and the process's arguments, and exit with the status."""
    run_command(lambda: main([*verb, *sys.argv[1:]]))
