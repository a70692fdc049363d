"""TIPC chains: `prepare` lays out the data, `plan` shows the commands, `run` runs them.

  python -m paddleseg_ext tipc prepare CFG.txt MODE
  python -m paddleseg_ext tipc plan CFG.txt MODE
  python -m paddleseg_ext tipc run CFG.txt MODE

test_tipc/*.sh call these from the project's folder. `prepare` uses the Cityscapes folder that the
environment variable CITYSCAPES_ROOT names, else the embedded data set.
"""

import os
from pathlib import Path

from paddleseg_ext.common import flags
from paddleseg_ext.parity.tipc import MODES, make_plan
from paddleseg_ext.parity.tipc_data import prepare
from paddleseg_ext.parity.tipc_run import run_plan


def main(argv: list[str]) -> int | None:
    """Parse and do."""
    parser = flags.make_parser(__doc__ or "")
    parser.prog = "python -m paddleseg_ext tipc"
    parser.add_argument("action", choices=("prepare", "plan", "run"), help="what to do")
    parser.add_argument("config", type=Path, metavar="CFG.txt", help="a train_infer_python.txt")
    parser.add_argument("mode", metavar="MODE", help=f"one of {', '.join(MODES)}")
    arguments = parser.parse_args(argv)
    if arguments.action == "prepare":
        prepare(arguments.config, arguments.mode, os.environ.get("CITYSCAPES_ROOT") or None)
        return None
    plan = make_plan(arguments.config, arguments.mode)
    if arguments.action == "run":
        run_plan(plan)
        return None
    for run in plan.runs:
        place = run.reason or plan.log_dir / f"{run.name}.log"
        print(run.kind, place, run.shown_command, sep="\t")
    return None
