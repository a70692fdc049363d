"""`python -m paddleseg_ext VERB ...`: what is not one of the five commands."""

import importlib
import sys

from paddleseg_ext.common.errors import UsageError, nearest_name, run_command

COMMANDS = ("train", "val", "predict", "export_model", "infer")  # files in the project's folder
# verb -> (module with `main(argv) -> int | None`, what it does)
VERBS = {
    "bench": (
        "paddleseg_ext.bench.cli",
        "speed, memory and parts of bundles on backends, in turns",
    ),
    "curves": ("paddleseg_ext.curves", "loss and mIoU of training runs in one picture"),
    "data": ("paddleseg_ext.data.cli", "make, check and inspect data sets"),
    "demo": ("paddleseg_ext.demo.cli", "the whole way on embedded data, with a report"),
    "doctor": ("paddleseg_ext.doctor", "parameters, multiply-adds and strides of a yml's network"),
    "import": ("paddleseg_ext.import_weights", "turn a published checkpoint into ours"),
    "parity": ("paddleseg_ext.parity.cli", "compare an exported bundle with its network"),
    "quantize": ("paddleseg_ext.quantization.cli", "an INT8 graph for a bundle, judged"),
    "serve": ("paddleseg_ext.serving.cli", "answer images over HTTP, with a page"),
    "tipc": ("paddleseg_ext.tipc.cli", "prepare, show and run TIPC chains"),
    "tune": ("paddleseg_ext.tune", "find the fastest backend that gives a bundle's answer"),
}


def main(argv: list[str]) -> int | None:
    """Hand the rest of the command line to the verb's module."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m paddleseg_ext VERB ...  (VERB --help tells more)\n")
        for verb, (_, summary) in VERBS.items():
            print(f"  {verb:<10} {summary}")
        scripts = ", ".join(f"{command}.py" for command in COMMANDS)
        print(f"\nCommands of their own, as in `python train.py --help`: {scripts}")
        return 0 if argv else 2
    if argv[0].removesuffix(".py") in COMMANDS:
        name = f"{argv[0].removesuffix('.py')}.py"
        raise UsageError(f"'{argv[0]}' is a command of its own: python {name} ...")
    if argv[0] not in VERBS:
        raise UsageError(f"unknown verb '{argv[0]}'{nearest_name(argv[0], VERBS)}")
    module = importlib.import_module(VERBS[argv[0]][0])
    return module.main(argv[1:])


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
