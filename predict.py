#!/usr/bin/env python3
"""`paddleseg-ext predict` under PaddleSeg's name; `python predict.py --help` describes it."""

from paddleseg_ext.commands.main import run

if __name__ == "__main__":
    run("predict")
