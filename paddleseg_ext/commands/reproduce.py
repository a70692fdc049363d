"""Print what repeats a run, and check what differs here.

    paddleseg-ext reproduce output/bisenetv1

Reads run.json of the run's folder: commands, versions, seed, machine, sha256 of the data sets and
of the weights it started from. Hashes the data sets that are here, compares, and ends with status 1
where anything differs. With nothing different, the printed command gives the same weights to the
bit.
"""

import argparse

from paddleseg_ext.common.errors import CheckFailed, require_none
from paddleseg_ext.common.flags import make_parser


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `reproduce`."""
    parser = make_parser(__doc__, "reproduce")
    parser.add_argument("run", metavar="RUN", help="--save_dir of a training")
    return parser


def main(argv: list[str]) -> None:
    """Print the record of the run, and compare it with what is here.

    Raises:
        CheckFailed: something differs.
    """
    arguments = build_parser().parse_args(argv)
    from paddleseg_ext.studies.reproduce import reproduce_lines

    lines, differences = reproduce_lines(arguments.run)
    print("\n".join(lines))
    require_none(
        differences, f"{arguments.run}: {len(differences)} things differ here:", CheckFailed
    )
    print("nothing of it differs here")
