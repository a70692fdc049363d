r"""Compare runtimes of one network, by label maps and integer counts.

The eager network (config and checkpoint, as `val.py` runs it) predicts every image of the list.
Then each stage runs the exported bundle, and is graded: identical; near-tie (at every pixel that
differs the eager network was undecided, each is listed); within-budget (no more differs than the
budget of the stage's precision allows); or failed. The first place where a run differs from the
eager network is named. A stage that fell back to something else fails, whatever it predicted, and
so does every run of a bundle that was exported from another checkpoint.
The evaluation while training is compared too, and so are the results that commands left in folders
(--results).

Without --bundle the checkpoint is exported first. Without --model_path the first stage is the
reference, so that an ONNX file from elsewhere (--onnx) can be checked.

SAVE_DIR gets report.html, results.json and junit.xml; a bundle of ours keeps each runtime's verdict
(Manifest.verified). The exit status is 1 if anything failed, or if nothing was compared.

  paddleseg-ext parity --config YML --model_path output/best_model/model.pdparams \
      --bundle output/inference_model/deploy.yaml --image_list val.list --save_dir output/parity
  paddleseg-ext parity --bundle output/inference_model/deploy.yaml --image_list val.list \
      --stages paddle,onnxruntime --quick
  paddleseg-ext parity --onnx net.onnx --config YML --image_list val.list \
      --stages onnxruntime,openvino
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any, cast

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file, require_writable
from paddleseg_ext.common.flags import add_opts_flag, make_parser
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.config import Config, load_config
from paddleseg_ext.export.onnx_conversion import has_paddle2onnx
from paddleseg_ext.inference.bundle import DEPLOY_FILE, Bundle, bundle_for_onnx, read_bundle
from paddleseg_ext.inference.engines.table import ONNX_ENGINES
from paddleseg_ext.inference.postprocess import OUTPUT_OPS
from paddleseg_ext.parity.parity_run import ParityOptions, compare_bundle
from paddleseg_ext.parity.record import record


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `parity`."""
    parser = make_parser(__doc__, "parity")
    parser.add_argument(
        "--config",
        metavar="YML",
        help="the network's configuration; may be left out where a bundle of ours is compared "
        "without its checkpoint",
    )
    add_opts_flag(parser)
    graph = parser.add_mutually_exclusive_group()
    graph.add_argument(
        "--bundle",
        metavar="YAML",
        help="deploy.yaml of the exported network (default: export it into SAVE_DIR/bundle)",
    )
    graph.add_argument("--onnx", metavar="FILE", help="an ONNX graph from elsewhere")
    parser.add_argument(
        "--output_op",
        choices=OUTPUT_OPS,
        default="none",
        help="last operator of the graph of --onnx",
    )
    parser.add_argument(
        "--save_dir", default="output/parity", help="gets report.html, results.json, junit.xml"
    )
    add_options(parser, ParityOptions)
    return parser


def check_flags(args: argparse.Namespace, options: ParityOptions) -> None:
    """Refuse what cannot be compared, before Paddle is imported.

    Raises:
        UsageError: see `ParityOptions.check`; or nothing to compare, a missing file, or a stage
            that cannot run --onnx.
    """
    if options.model_path is None and args.bundle is None and args.onnx is None:
        raise UsageError("one of --model_path, --bundle and --onnx is expected")
    options.check(args.config is not None)
    for stage in options.runtimes():
        if args.onnx is not None and stage.engine not in ONNX_ENGINES:
            raise UsageError(
                f"--stages: {stage.name} cannot run --onnx; use {' or '.join(ONNX_ENGINES)}"
            )
    if args.onnx is not None:
        if options.producers():
            raise UsageError(
                f"--stages: {options.producers()[0]} reads a bundle: give a deploy.yaml that names "
                "the graph (--bundle) instead of --onnx"
            )
        require_file(args.onnx, "--onnx")
    if args.bundle is not None:
        path = Path(args.bundle)
        require_file(path / DEPLOY_FILE if path.is_dir() else path, "--bundle")


def main(argv: list[str]) -> None:
    """Check what can be checked without Paddle, then compare."""
    args = build_parser().parse_args(argv)
    options = read_options(ParityOptions, args)
    check_flags(args, options)
    config = load_config(args.config, args.opts) if args.config else None
    if config is not None and options.model_path is not None:
        config.section("model")
    save_dir = require_writable(args.save_dir, "--save_dir")
    fix_thread_count()
    bundle = open_bundle(args, options, config, save_dir)
    export_network = None
    if config is not None and options.model_path is not None:
        export_network = partial(export_like, bundle, config, options.model_path)
    result = compare_bundle(bundle, options, config, export_network)
    result.write(save_dir)
    record(bundle, result.outcomes, result.faults, options.quick)
    result.check()


def export_like(bundle: Bundle, config: Config, model_path: str, folder: Path) -> Bundle:
    """The bundle of the network itself, exported into a folder as the given one was."""
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions

    log("[PARITY] the network is exported, to name the first layer that differs")
    upsampling = bundle.manifest.upsampling if bundle.manifest else "graph"
    options = ExportOptions(
        folder / "reference",
        input_shape=tuple(-1 if side is None else side for side in bundle.input_shape)
        if bundle.input_shape
        else (-1, 3, -1, -1),
        output_op=cast(Any, bundle.output_op),
        onnx=has_paddle2onnx(),
        fold_normalize=bundle.input_dtype == "uint8",
        upsample="graph" if upsampling == "graph" else "host",
    )
    return read_bundle(export(config, model_path, options))


def open_bundle(
    args: argparse.Namespace, options: ParityOptions, config: Config | None, save_dir: Path
) -> Bundle:
    """The bundle, read, made of an ONNX file, or exported.

    Raises:
        UsageError: it cannot be read, or the network cannot be exported.
    """
    if args.onnx is not None:
        transforms = config.val_dataset.get("transforms") or [] if config else []
        return bundle_for_onnx(args.onnx, transforms, args.output_op)
    if args.bundle is not None:
        return read_bundle(args.bundle)
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions

    assert config is not None and options.model_path is not None  # of `check_flags`
    folder = save_dir / "bundle"
    log(f"no --bundle: {options.model_path} is exported into {folder}")
    onnx = any(stage.engine in ONNX_ENGINES for stage in options.runtimes())
    onnx |= bool(options.producers())
    return read_bundle(export(config, options.model_path, ExportOptions(folder, onnx=onnx)))
