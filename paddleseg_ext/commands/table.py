"""Make a table of training runs: cost, speed, mIoU with mean and deviation over seeds.

    paddleseg-ext table output/v1 output/v2 --save_path table.md table.tex table.csv
    paddleseg-ext table output/sweep --score last --bench output/bench/bench.json

RUN is the --save_dir of a training, or a folder with runs in it, as of --seeds and --sweep. Runs
that differ in nothing but the seed are one row. The first row is what the others are compared with,
over the seeds that both have. Unfinished runs are left out, and named. Without --save_path the
table is printed.
"""

import argparse
from pathlib import Path

from paddleseg_ext.common import flags
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import fix_thread_count


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `table`."""
    parser = flags.make_parser(__doc__, "table")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs")
    parser.add_argument(
        "--save_path",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="ending in .md, .tex (booktabs) or .csv",
    )
    parser.add_argument(
        "--score",
        choices=("best", "last"),
        default="best",
        help="evaluation of each run that counts",
    )
    parser.add_argument("--protocol", metavar="NAME", help="of keep_best: (that of best_model)")
    parser.add_argument(
        "--bench", nargs="+", default=[], metavar="JSON", help="bench.json of the exported runs"
    )
    flags.add_input_shape_flag(parser, "of the image that multiply-adds are counted for")
    return parser


def main(argv: list[str]) -> None:
    """Print the table of the command line, or write it."""
    arguments = build_parser().parse_args(argv)
    fix_thread_count()
    from paddleseg_ext.studies.table import make_table
    from paddleseg_ext.studies.table_formats import check_targets, markdown_of, write_tables

    check_targets(arguments.save_path)
    _, _, height, width = arguments.input_shape
    table = make_table(
        arguments.runs, arguments.score, arguments.protocol, (height, width), arguments.bench
    )
    if not arguments.save_path:
        print(markdown_of(table), end="")
        return
    write_tables(table, arguments.save_path)
    log(f"{', '.join(map(str, arguments.save_path))}: {len(table.rows)} rows")
