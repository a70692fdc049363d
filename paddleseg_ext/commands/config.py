"""The configurations that come with this package, and what a yml amounts to.

    paddleseg-ext config list
    paddleseg-ext config show bisenetv1_cityscapes_1024x512_160k > my.yml

`show` prints one yml with every `_base_` file and --opts applied, and the defaults of all keys that
it leaves out. Paths in it are relative to the working directory.
"""

import argparse
from pathlib import Path

import yaml

from paddleseg_ext.common import flags
from paddleseg_ext.common.shipped_configs import describe_config, shipped_configs
from paddleseg_ext.config import load_config


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `config`."""
    parser = flags.make_parser(__doc__, "config")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="names and what they train")
    show = actions.add_parser("show", help="the whole of a configuration")
    show.add_argument("config", metavar="NAME", help="of a shipped configuration, or a yml's path")
    flags.add_opts_flag(show)
    return parser


def main(argv: list[str]) -> int | None:
    """Print the list, or a configuration as a yml."""
    arguments = build_parser().parse_args(argv)
    if arguments.action == "list":
        found = shipped_configs()
        width = max(map(len, found), default=0)
        for name, path in found.items():
            print(f"{name:<{width}}  {describe_config(path)}")
        return None
    config = load_config(arguments.config, arguments.opts)
    print(f"# {Path(arguments.config).stem}, with its _base_ files and all defaults")
    whole = config.with_defaults()
    print(yaml.safe_dump(whole, sort_keys=False, default_flow_style=None, width=100), end="")
    return None
