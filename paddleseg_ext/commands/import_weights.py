r"""Turn a published checkpoint into a .pdparams of our networks.

  paddleseg-ext import --from torchseg --weights model.pth \
      --config configs/bisenetv1/bisenetv1_cityscapes_1024x512_160k.yml --save_path r18.pdparams

The layout is recognised by its tensors. Some published layouts have the same tensors and compute
with them differently; then --generation says which. Every tensor is reported as loaded, folded
(InPlaceABN's weight as |weight| + eps) or dropped, and nothing may be left over or missing.
Weights of an ImageNet classifier become a backbone's, for `model.backbone.pretrained:`.

Reads .pth and .pt (both formats, also with `state_dict` or `model` around the tensors),
.safetensors, .npz and .pdparams. Nothing in a file is executed, and PyTorch is not needed.
"""

import argparse
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.files import require_writable, sha256_of
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.config import Config, load_config
from paddleseg_ext.published.files import read_published
from paddleseg_ext.published.generation import Generation
from paddleseg_ext.published.mapping import Imported, rename
from paddleseg_ext.published.systems import (
    AUTO,
    GENERATIONS,
    SYSTEMS,
    recognise,
)
from paddleseg_ext.registry import BACKBONES, MODELS

if TYPE_CHECKING:
    from paddle import nn

GOLDEN_DIR = Path(__file__).resolve().parents[1] / "tests" / "golden"


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    layouts = "\n".join(f"  {g.system:<13}{g.name:<19}{g.title}" for g in GENERATIONS)
    parser = flags.make_parser(f"{__doc__}\nLayouts (--from, --generation):\n{layouts}", "import")
    flags.add_config_flags(parser)
    parser.add_argument(
        "--from", dest="system", required=True, choices=[AUTO, *SYSTEMS], help="who published it"
    )
    parser.add_argument("--weights", required=True, metavar="FILE", help="the checkpoint")
    parser.add_argument("--save_path", required=True, metavar="PDPARAMS", help="what to write")
    parser.add_argument("--generation", default=None, metavar="NAME", help="the layout, see above")
    flags.add_switch(parser, "--verify", "run the golden cases of this layout before writing")
    parser.add_argument(
        "--golden_dir", default=GOLDEN_DIR, type=Path, metavar="DIR", help="cases for --verify"
    )
    return parser


def main(argv: list[str]) -> None:
    """`paddleseg-ext import`."""
    args = build_parser().parse_args(argv)
    fix_thread_count()
    save_path = Path(args.save_path)
    if save_path.suffix != ".pdparams":
        raise UsageError(f"--save_path: a name ending in .pdparams is expected, got '{save_path}'")
    require_writable(save_path.parent, "--save_path")
    config = load_config(args.config, args.opts)
    arrays = read_published(args.weights)
    generation = recognise(arrays, args.system, args.generation, args.weights)
    log(f"{args.weights}: {generation.system} {generation.name}: {generation.title}")
    check_options(config, generation)
    if args.verify:
        verify(args.golden_dir, generation)
    target, imported = load_published(config, generation, arrays, args.weights)
    print("\n".join(imported.lines()))
    log(imported.summary())
    _save(target, save_path, generation, config, args.weights)
    key = {"backbone": "model.backbone.pretrained", "body": "pretrained"}.get(generation.part)
    log(f"wrote {save_path}" + (f"; start from it with --opts {key}={save_path}" if key else ""))


def check_options(config: Config, generation: Generation) -> None:
    """That the yml's network is the one that these weights belong to.

    Raises:
        UsageError: an option differs; each is named with the value it must have.
    """
    if config.only_paddleseg:
        raise UsageError(f"{config.path}: 'registry: paddleseg' leaves no network of ours to fill")
    wrong = _differences(config.model, generation.model, "model")
    if wrong:
        opts = " ".join(f"{key}={wanted}" for key, (_, wanted) in wrong.items())
        said = ", ".join(f"{key} is {found}" for key, (found, _) in wrong.items())
        raise UsageError(
            f"{config.path}: {said}; {generation.system} {generation.name} needs --opts {opts}"
        )


def _differences(
    spec: Mapping[str, Any], wanted: Mapping[str, Any], where: str
) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (what the yml means, what is needed), where they differ."""
    wrong: dict[str, tuple[Any, Any]] = {}
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            inner = spec.get(key)
            wrong |= _differences(
                inner if isinstance(inner, Mapping) else {}, value, f"{where}.{key}"
            )
        elif _meant(spec, wanted, key, where) != value:
            wrong[f"{where}.{key}"] = (_meant(spec, wanted, key, where), value)
    if "type" in wanted and f"{where}.type" not in wrong:
        # An option these weights are silent on must have its default, if it changes arithmetic.
        wrong |= {
            f"{where}.{key}": (spec[key], default)
            for key, default in _defaults(wanted["type"], where).items()
            if key in _ARITHMETIC and key not in wanted and spec.get(key, default) != default
        }
    return wrong


# Options that change what is computed and not which tensors there are: strict loading cannot see
# a wrong value.
_ARITHMETIC = ("activation", "pool_counts_padding")


def _defaults(type_name: str, where: str) -> dict[str, Any]:
    registry = BACKBONES if where.endswith("backbone") else MODELS
    parameters = inspect.signature(registry.find(type_name)).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def _meant(spec: Mapping[str, Any], wanted: Mapping[str, Any], key: str, where: str) -> Any:
    if key in spec or key == "type":
        return spec.get(key)
    return _defaults(wanted["type"], where).get(key)


def verify(directory: Path, generation: Generation) -> None:
    """Run the golden cases of a layout, and print them.

    Raises:
        CheckFailed: one does not pass.
    """
    from paddleseg_ext.published.golden import PASSED, run_generation

    results = run_generation(directory, generation)
    for result in results:
        log(f"golden: {result.line()}")
    if any(result.status != PASSED for result in results):
        raise CheckFailed(f"{generation.system} {generation.name} does not pass its golden cases")


def load_published(
    config: Config, generation: Generation, arrays: Mapping[str, Any], source: str
) -> tuple["nn.Layer", Imported]:
    """The network of the yml (or its backbone) with the checkpoint's tensors in it, all of them.

    Raises:
        UsageError: a tensor is unknown, missing, or of another shape.
    """
    from paddleseg_ext.checkpoints.store import load_arrays_into
    from paddleseg_ext.data.build import class_table_of
    from paddleseg_ext.models.build import build_model

    num_classes = config.model.get("num_classes")
    model = build_model(config, num_classes or class_table_of(config).num_classes)
    target = model.backbone if generation.part == "backbone" else model
    names = target.state_dict()
    imported = rename(arrays, generation.rules, source, wanted=names)
    if generation.part == "body":
        missing = [n for n in names if n not in imported.arrays and not _is_head(n)]
        if missing:
            raise UsageError(f"{source}: {len(missing)} tensors are missing: {missing[0]} ...")
    report = load_arrays_into(target, imported.arrays, source, strict=generation.part != "body")
    if report.misshapen:
        raise UsageError(f"{source}: {report.describe()}")
    log(f"{report.describe() if report.complete else 'loaded all but the heads'}")
    return target, imported


def _is_head(name: str) -> bool:
    return name.startswith(("head.", "aux_head"))


def _save(
    target: "nn.Layer", path: Path, generation: Generation, config: Config, weights: str
) -> None:
    from paddleseg_ext.checkpoints.store import save_weights

    save_weights(
        _WithoutHeads(target) if generation.part == "body" else target,
        path,
        {
            "config": str(config.path),
            "imported_from": {
                "system": generation.system,
                "generation": generation.name,
                "file": str(weights),
                "sha256": sha256_of(weights),
            },
        },
    )


class _WithoutHeads:
    """A network whose heads are not saved: they were never trained."""

    def __init__(self, model: "nn.Layer"):
        self._model = model

    def state_dict(self) -> dict[str, Any]:
        return {n: t for n, t in self._model.state_dict().items() if not _is_head(n)}
