#!/usr/bin/env python3
"""`paddleseg-ext export` under PaddleSeg's name; `python export_model.py --help` describes it."""

from paddleseg_ext.commands.main import run

if __name__ == "__main__":
    run("export")
