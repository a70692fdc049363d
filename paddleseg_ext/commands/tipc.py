"""TIPC chains: train, deploy in every way the txt asks for, and prove that the numbers are equal.

  paddleseg-ext tipc prepare CFG.txt MODE    lay out the data
  paddleseg-ext tipc plan CFG.txt MODE       show the commands
  paddleseg-ext tipc run CFG.txt MODE        run them
  paddleseg-ext tipc suite                   every chain of every network
  paddleseg-ext tipc lint CFG.txt ...        check txt files

The first four need a checkout: test_tipc/*.sh call them in its folder. `prepare` uses the data that
the environment variable CITYSCAPES_ROOT names, else the embedded ones. Exit status: 0 everything
passed, 1 something failed, 2 wrong use, 3 nothing could run on this machine.
"""

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from paddleseg_ext.commands.main import VERBS, parser_of
from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.tipc.chains import CHAINS, ChainRequest, make_plan
from paddleseg_ext.tipc.data import prepare
from paddleseg_ext.tipc.lint import Problem, lint_files
from paddleseg_ext.tipc.run import run_plan
from paddleseg_ext.tipc.serving import AskOptions, ask_service
from paddleseg_ext.tipc.suite import CONFIG_ROOT, SuiteOptions, networks, run_suite
from paddleseg_ext.tipc.training import compare_losses, write_speed
from paddleseg_ext.tipc.txt import MODES
from paddleseg_ext.tipc.verbs import Verbs


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `tipc`."""
    parser = flags.make_parser(__doc__, "tipc")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, description=summary)

    for name, summary in (
        ("prepare", "lay out the data of a mode"),
        ("plan", "show the commands of a chain"),
        ("run", "run a chain"),
    ):
        action = add(name, summary)
        action.add_argument("config", type=Path, metavar="CFG.txt", help="the chain's txt")
        action.add_argument("mode", metavar="MODE", help=f"one of {', '.join(MODES)}")
        if name != "prepare":
            text = "of benchmark_train: dynamic_bs2_fp32_DP_N1C1"
            action.add_argument("params", nargs="?", default="", metavar="PARAMS", help=text)
            action.add_argument("--chain", choices=CHAINS, help="default: by the kind of the txt")
    action = add("suite", "run every chain of every network on the same data")
    add_options(action, SuiteOptions, networks=networks())
    action = add("lint", "check txt files against the format and the commands' flags")
    action.add_argument("configs", nargs="+", type=Path, metavar="CFG.txt", help="the files")
    action = add("losses", "compare the losses of two trainings, to the bit")
    action.add_argument("histories", nargs=2, type=Path, metavar="history.json", help="of train.py")
    action = add("speed", "read the speed of a training from its log")
    action.add_argument("log_file", type=Path, metavar="LOG", help="of train.py --log_iters 1")
    action.add_argument("target", type=Path, metavar="JSON", help="is written")
    action = add("ask", "start the HTTP service, ask it for label maps, stop it")
    add_options(action, AskOptions)
    action.add_argument("service", nargs="*", metavar="-- COMMAND", help="starts the service")
    return parser


def main(argv: list[str]) -> int | None:
    """Parse and do."""
    arguments = build_parser().parse_args(argv)
    if arguments.action in ("prepare", "plan", "run", "suite"):
        require_checkout()
    verbs = Verbs({verb: partial(parser_of, verb) for verb in VERBS})
    match arguments.action:
        case "prepare":
            source = os.environ.get("CITYSCAPES_ROOT") or None
            prepare(arguments.config, arguments.mode, source)
        case "plan" | "run":
            plan = make_plan(read_options(ChainRequest, arguments), verbs)
            if arguments.action == "run":
                return run_plan(plan)
            for run in plan.runs:
                place = run.reason or plan.log_dir / f"{run.name}.log"
                print(run.kind, place, run.shown_command, sep="\t")
        case "suite":
            return run_suite(read_options(SuiteOptions, arguments), verbs)
        case "lint":
            show(lint_files(arguments.configs, verbs), len(arguments.configs))
        case "losses":
            compare_losses(*arguments.histories)
        case "speed":
            write_speed(arguments.log_file, arguments.target)
        case "ask":
            ask_service(read_options(AskOptions, arguments))
    return None


def require_checkout() -> None:
    """Checks that this is the folder of a checkout, whose scripts and txt files the chains run.

    Raises:
        UsageError: it is not.
    """
    if not CONFIG_ROOT.is_dir():
        raise UsageError(
            f"tipc: there is no {CONFIG_ROOT} in {Path.cwd()}; chains run in the folder of a "
            "checkout of this project, an installed copy has none"
        )


def show(problems: Sequence[Problem], num_files: int) -> None:
    """Prints every problem as `file:line: what, and the remedy`.

    Raises:
        CheckFailed: there are some.
    """
    for problem in problems:
        print(problem)
    if problems:
        raise CheckFailed(f"problems: {len(problems)}, in files: {len({p.path for p in problems})}")
    log(f"{num_files} files, no problem")
