#!/usr/bin/env python3
"""`paddleseg-ext infer` under PaddleSeg's name; `python infer.py --help` describes it."""

from paddleseg_ext.commands.main import run

if __name__ == "__main__":
    run("infer")
