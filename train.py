#!/usr/bin/env python3
"""`paddleseg-ext train` under PaddleSeg's name; `python train.py --help` describes it."""

from paddleseg_ext.commands.main import run

if __name__ == "__main__":
    run("train")
