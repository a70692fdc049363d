r"""Convert a checkpoint to a static graph that inference can load anywhere, and check it.

    python export_model.py --config YML --model_path output/best_model/model.pdparams \
        --save_dir output/inference_model

SAVE_DIR gets model.json, model.pdiparams and deploy.yaml, which is all that infer.py reads. Before
the command returns, Paddle Inference has run the graph with oneDNN off and on, and given the eager
network's result; so has ONNX Runtime with --onnx True. Otherwise nothing is written and the status
is 1.
"""

import argparse
from pathlib import Path

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file, require_writable
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.config import load_config


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = flags.make_parser(__doc__ or "", "export")
    flags.add_config_flags(parser)
    parser.add_argument(
        "--model_path", required=True, metavar="PDPARAMS", help="the checkpoint to export"
    )
    parser.add_argument(
        "--save_dir", type=Path, default=Path("output/inference_model"), help="the bundle's folder"
    )
    parser.add_argument(
        "--input_shape",
        type=int,
        nargs="+",
        metavar="N",
        help="N 3 H W, or H W alone; height comes first, -1 is any (default: any batch, height and "
        "width)",
    )
    parser.add_argument(
        "--output_op",
        choices=["none", "argmax", "softmax"],
        default="none",
        help="what the graph ends in: logits, int32 class ids, probabilities. Where preprocessing "
        "resizes, class ids return to the image's size by nearest, the others bilinearly",
    )
    parser.add_argument(
        "--onnx",
        type=flags.boolean,
        default=False,
        metavar="True|False",
        help="also write model.onnx, for infer.py --backend onnxruntime or openvino and for "
        "quantize; needs paddleseg_ext[onnx]",
    )
    parser.add_argument(
        "--fold_normalize",
        type=flags.boolean,
        default=False,
        metavar="True|False",
        help="put Normalize into the graph, which then takes bytes (N, 3, H, W)",
    )
    parser.add_argument(
        "--upsample",
        choices=["graph", "host"],
        default="graph",
        help="what enlarges the logits: the graph, or infer.py, which does so only where classes "
        "meet (the label maps are the same but for rounding); needs --output_op none",
    )
    return parser


def main(argv: list[str]) -> int | None:
    """Parse, check, export."""
    arguments = build_parser().parse_args(argv)
    config = load_config(arguments.config, arguments.opts)
    config.section("model")
    config.section("val_dataset")
    require_file(arguments.model_path, "--model_path")
    if arguments.upsample == "host" and arguments.output_op != "none":
        raise UsageError(f"--upsample host gives logits, not --output_op {arguments.output_op}")
    require_writable(arguments.save_dir, "--save_dir")
    fix_thread_count()

    from paddleseg_ext.data.build import validation_data
    from paddleseg_ext.export.exporter import ExportOptions, export, parse_input_shape

    options = ExportOptions(
        arguments.save_dir,
        parse_input_shape(arguments.input_shape),
        arguments.output_op,
        arguments.onnx,
        arguments.fold_normalize,
        arguments.upsample,
    )
    data = validation_data(config)
    deploy_file = export(config, arguments.model_path, options, data.class_table, data.first_image)
    log(f"exported to {deploy_file}")
    return None
