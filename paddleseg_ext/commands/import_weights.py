r"""Turn a published checkpoint into a .pdparams of our networks.

  paddleseg-ext import --from torchseg --weights model.pth \
      --config configs/bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml --save_path r18.pdparams

The layout is recognised by its tensors. Some published layouts have the same tensors and compute
with them differently; then --generation says which. Every tensor is reported as loaded, folded
(InPlaceABN's weight as |weight| + eps) or dropped. None may be unknown or missing. The manifest
beside the result holds the configuration, so that predict, val and export need no --config.
Weights of an ImageNet classifier become a backbone's, for `model.backbone.pretrained:`.

Reads .pth and .pt (both formats, also with `state_dict` or `model` around the tensors),
.safetensors, .npz and .pdparams. Nothing in a file is executed, and PyTorch is not needed.
"""

import argparse

from paddleseg_ext.common import flags
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
    flags.add_config_flags(parser)
    parser.add_argument(
        "--from", dest="system", required=True, choices=[AUTO, *SYSTEMS], help="who published it"
    )
    parser.add_argument("--weights", required=True, metavar="FILE", help="the checkpoint")
    parser.add_argument("--save_path", required=True, metavar="PDPARAMS", help="what to write")
    add_options(parser, ImportOptions)
    return parser


def main(argv: list[str]) -> None:
    """Convert the checkpoint, and print what became of each tensor."""
    args = build_parser().parse_args(argv)
    fix_thread_count()
    config = load_config(args.config, args.opts)
    options = read_options(ImportOptions, args)
    result = import_checkpoint(args.weights, config, args.save_path, options)
    print("\n".join(result.tensors.lines()))
    log(result.tensors.summary())
    key = result.pretrained_key
    start = f"; start from it with --opts {key}={result.path}" if key else ""
    log(f"wrote {result.path}{start}")
