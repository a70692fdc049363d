r"""Make an INT8 graph for a bundle (post-training, no labels needed), and judge it.

Ranges of activations come from real images of the list. They hold 100, 99.999 or 99.99% of the
values (--percentile), whichever changes the class of the fewest pixels with every layer in INT8.
Where more pixels change than the budget allows, each convolution is quantised alone to measure its
cost (--sensitivity). Those that alone move the logits by more than 2% stay in float (--keep_float),
and so do the most sensitive others, until the whole graph meets the budget of changed pixels on
calibration images. The result runs on images of the list in every runtime of --backend, beside the
float graph. Label maps, and with labels the mean IoU before and after, must meet the INT8 budget of
`parity`.

SAVE_DIR gets a copy of the bundle with model_int8.onnx and quantization.json. The verdicts are in
its deploy.yaml, where `infer --precision int8` reads them. An earlier result is replaced; any other
folder that is not empty is refused. The exit status is 1 if a runtime's INT8 exceeds the budget.

  paddleseg-ext quantize --config output/inference_model/deploy.yaml --data train.list \
      --backend onnxruntime openvino --save_dir output/inference_model_int8
"""

import argparse

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.evaluation.budgets import read_budgets
from paddleseg_ext.images.samples import collect_samples
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.quantization.quantize import QuantizeOptions, quantize


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `quantize`."""
    parser = flags.make_parser(__doc__, "quantize")
    parser.add_argument("--config", required=True, metavar="YAML", help="deploy.yaml of the bundle")
    parser.add_argument(
        "--data", required=True, metavar="PATH", help="a list with 'image label', or images alone"
    )
    add_options(parser, QuantizeOptions)
    parser.add_argument(
        "--budgets", metavar="YML", help="as for parity, where its own INT8 budget is not meant"
    )
    return parser


def main(argv: list[str]) -> None:
    """Quantise and judge.

    Raises:
        CheckFailed: an engine's INT8 exceeds the budget.
    """
    arguments = build_parser().parse_args(argv)
    options = read_options(
        QuantizeOptions,
        arguments,
        cpu_threads=fix_thread_count(arguments.cpu_threads),
        budget=read_budgets(arguments.budgets)["int8"],
    )
    bundle, listed = read_bundle(arguments.config), collect_samples(arguments.data)
    records = quantize(bundle, listed, options)
    failed = [name for name, record in records.items() if not record.passed]
    if failed:
        raise CheckFailed(
            f"beyond the INT8 budget: {', '.join(failed)}. Try --keep_float, or more "
            "--calibration_images"
        )
