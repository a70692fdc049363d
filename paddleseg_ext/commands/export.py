r"""Convert a checkpoint to a static graph that inference can load anywhere, and check it.

    python export_model.py --config YML --model_path output/best_model/model.pdparams \
        --save_dir output/inference_model

SAVE_DIR gets model.json, model.pdiparams and deploy.yaml, which is all that infer.py reads, and
MODEL_CARD.md for people. Before the command returns, Paddle Inference has run the graph with oneDNN
off and on and was compared with the eager network; so was ONNX Runtime with --onnx True. A runtime
that gives another result is recorded as failed; where none gives the network's, nothing is written
and the status is 1.
"""

import argparse

from paddleseg_ext.checkpoints.manifest import configuration_for
from paddleseg_ext.common import flags
from paddleseg_ext.common.files import require_file, require_writable
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.export.options import ExportOptions

_PADDLESEGS = {
    "--without_argmax": "that is the default here; leave it out",
    "--with_softmax": "use --output_op softmax",
    "--device": "a graph runs on every device; leave it out",
    "--for_fd": "leave it out",
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `export`."""
    parser = flags.make_parser(__doc__, "export")
    flags.add_config_flags(parser, required=False)
    parser.add_argument(
        "--model_path", required=True, metavar="PDPARAMS", help="the checkpoint to export"
    )
    add_options(parser, ExportOptions)
    flags.add_flags_of_paddleseg(parser, _PADDLESEGS)
    return parser


def main(argv: list[str]) -> int | None:
    """Parse, check, export."""
    arguments = build_parser().parse_args(argv)
    options = read_options(ExportOptions, arguments)
    config = configuration_for(arguments.model_path, arguments.config, arguments.opts)
    config.section("model")
    config.section("val_dataset")
    require_file(arguments.model_path, "--model_path")
    require_writable(options.save_dir, "--save_dir")
    fix_thread_count()

    from paddleseg_ext.export.exporter import export

    log(f"exported to {export(config, arguments.model_path, options)}")
    return None
