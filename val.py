#!/usr/bin/env python3
"""`paddleseg-ext val` under PaddleSeg's name; `python val.py --help` describes it."""

from paddleseg_ext.commands.main import run

if __name__ == "__main__":
    run("val")
