r"""Turn a published checkpoint into a .pdparams of our networks.

  paddleseg-ext import --weights model_final.pth --save_path bisenet.pdparams

The layout is recognised by its tensors, the class count by the classifier, and the shipped
configuration that fits is named and taken; --config takes another one, such as a yml with your data
set. Some published layouts have the same tensors and compute with them differently; then
--generation says which. A table counts the tensors that were loaded, folded (InPlaceABN's weight as
|weight| + eps) and dropped; --verbose lists every one. None may be unknown or missing. The manifest
beside the result holds the configuration, so that predict, val and export need no --config.
Weights of an ImageNet classifier become a backbone's, for `model.backbone.pretrained:`.

Reads .pth and .pt (both formats, also with `state_dict` or `model` around the tensors),
.safetensors, .npz, .pdparams, and checkpoints and frozen graphs of TensorFlow. Nothing in a file is
executed, and neither PyTorch nor TensorFlow is needed.
"""

import argparse

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.config import load_config
from paddleseg_ext.published.importer import ImportOptions, import_checkpoint
from paddleseg_ext.published.systems import AUTO, GENERATIONS, SYSTEMS


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `import`."""
    layouts = "\n".join(f"  {g.system:<13}{g.name:<19}{g.title}" for g in GENERATIONS)
    parser = flags.make_parser(f"{__doc__}\nLayouts (--from, --generation):\n{layouts}", "import")
    parser.add_argument("--weights", required=True, metavar="FILE", help="the checkpoint")
    parser.add_argument("--save_path", required=True, metavar="PDPARAMS", help="what to write")
    parser.add_argument(
        "--from", dest="system", default=AUTO, choices=[AUTO, *SYSTEMS], help="who published it"
    )
    flags.add_config_flags(parser, required=False, default="the shipped one that fits")
    add_options(parser, ImportOptions)
    return parser


def main(argv: list[str]) -> None:
    """Convert the checkpoint, and print what became of its tensors."""
    args = build_parser().parse_args(argv)
    fix_thread_count()
    if args.opts and not args.config:
        raise UsageError("--opts changes keys of a yml: give --config, too")
    config = load_config(args.config, args.opts) if args.config else None
    options = read_options(ImportOptions, args)
    result = import_checkpoint(args.weights, config, args.save_path, options)
    tensors = result.tensors
    print("\n".join(tensors.lines() if args.verbose else tensors.table()))
    log(tensors.summary())
    key = result.pretrained_key
    start = f"; start from it with --opts {key}={result.path}" if key else ""
    log(f"wrote {result.path}{start}")
