"""Conversion of a published checkpoint to a `.pdparams` of our networks.

    config = load_config("bisenetv1_torchseg_cityscapes_1024x1024_80k")
    import_checkpoint("model.pth", config, "r18.pdparams", ImportOptions(verify=True))

The manifest of a whole network holds its configuration, so that the checkpoint can be opened
without one.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paddleseg_ext.checkpoints.manifest import CheckpointManifest
from paddleseg_ext.checkpoints.store import load_arrays_into, save_arrays, weights_of
from paddleseg_ext.common.errors import CheckFailed, UsageError, shortened
from paddleseg_ext.common.files import require_writable, sha256_of
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.options import CheckedOptions, option
from paddleseg_ext.common.version import __version__
from paddleseg_ext.config import Config
from paddleseg_ext.data.build import class_table_of
from paddleseg_ext.models.build import build_model
from paddleseg_ext.published.files import published_file, read_published
from paddleseg_ext.published.generation import Generation
from paddleseg_ext.published.golden import PASSED, CaseResult, run_generation
from paddleseg_ext.published.mapping import Imported
from paddleseg_ext.published.systems import AUTO, recognise
from paddleseg_ext.registry import BACKBONES, MODELS

if TYPE_CHECKING:
    from paddle import nn

# Options that change the arithmetic and not the tensors: strict loading cannot see a wrong value.
_ARITHMETIC = ("activation", "pool_counts_padding")
_PRETRAINED_KEYS = {"backbone": "model.backbone.pretrained", "body": "pretrained"}


@dataclass(frozen=True)
class ImportOptions(CheckedOptions):
    """The layout of a published checkpoint, and the check of its network.

    Attributes:
        system: one of `systems.SYSTEMS`, or `auto` to recognise it.
        generation: name of the layout; needed where several have the same tensors.
        verify: run the layout's golden cases and write nothing if one fails.
        golden_dir: the cases; by default those of the checkout.
    """

    system: str = AUTO
    generation: str | None = option(None, "the layout, see above", metavar="NAME")
    verify: bool = option(
        False, "run the golden cases of this layout before writing", nargs="?", const=True
    )
    golden_dir: Path | None = option(
        None, "cases for --verify (default: those of the checkout)", metavar="DIR"
    )


@dataclass(frozen=True)
class ImportResult:
    """A converted checkpoint.

    Attributes:
        path: the file that was written.
        generation: the layout of the published checkpoint.
        tensors: the tensors, and what was done with each of the published ones.
        golden: results of the golden cases, if they were asked for.
    """

    path: Path
    generation: Generation
    tensors: Imported
    golden: tuple[CaseResult, ...] = ()

    @property
    def pretrained_key(self) -> str | None:
        """The yml's key for starting from this file; None if it holds a whole network."""
        return _PRETRAINED_KEYS.get(self.generation.part)


def import_checkpoint(
    weights: str | Path,
    config: Config,
    save_path: str | Path,
    options: ImportOptions | None = None,
) -> ImportResult:
    """Convert a published checkpoint, and write it with a manifest.

    Args:
        weights: the checkpoint, in any of the formats of `files.read_published`.
        config: names the network that the weights belong to.
        save_path: the `.pdparams` to write.
        options: by default the layout is recognised and nothing is verified.

    Raises:
        UsageError: the layout is unknown or ambiguous, the configuration has another network, or
            a tensor is unknown, missing or misshapen. Nothing is written.
        CheckFailed: a golden case does not pass. Nothing is written.
    """
    options = options or ImportOptions()
    save_path, source = Path(save_path), str(weights)
    if save_path.suffix != ".pdparams":
        raise UsageError(f"--save_path: a name ending in .pdparams is expected, got '{save_path}'")
    require_writable(save_path.parent, "--save_path")
    arrays = read_published(weights)
    generation = recognise(arrays, options.system, options.generation, source)
    log(f"{source}: {generation.system} {generation.name}: {generation.title}")
    check_options(config, generation)
    golden = verify(generation, options.golden_dir) if options.verify else ()
    network, tensors = load_published(config, generation, arrays, source)
    whole = generation.part == "model"
    save_arrays(
        {name: x for name, x in weights_of(network).items() if whole or name in tensors.arrays},
        save_path,
        CheckpointManifest(
            **(_describe_network(config, network) if whole else {}),
            versions={"paddleseg_ext": __version__},
            imported_from={
                "system": generation.system,
                "generation": generation.name,
                "file": source,
                "sha256": sha256_of(published_file(weights)),
            },
        ),
    )
    return ImportResult(save_path, generation, tensors, golden)


def check_options(config: Config, generation: Generation) -> None:
    """Check that the configuration's network is the one that these weights belong to.

    Raises:
        UsageError: an option differs; the message gives the value that each must have.
    """
    if config.only_paddleseg:
        raise UsageError(f"{config.path}: 'registry: paddleseg' leaves no network of ours to fill")
    wrong = _differences(config.model, generation.model, "model")
    if wrong:
        opts = " ".join(f"{key}={wanted}" for key, (_, wanted) in wrong.items())
        found = ", ".join(f"{key} is {value}" for key, (value, _) in wrong.items())
        raise UsageError(
            f"{config.path}: {found}; {generation.system} {generation.name} needs --opts {opts}"
        )


def _differences(
    spec: Mapping[str, Any], wanted: Mapping[str, Any], where: str
) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (the yml's value or its default, the value needed), where they differ."""
    wrong: dict[str, tuple[Any, Any]] = {}
    defaults = _defaults(wanted["type"], where) if "type" in wanted else {}
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            inner = spec.get(key)
            section = inner if isinstance(inner, Mapping) else {}
            wrong |= _differences(section, value, f"{where}.{key}")
        else:
            found = spec.get(key, None if key == "type" else defaults.get(key))
            if found != value:
                wrong[f"{where}.{key}"] = (found, value)
    if f"{where}.type" not in wrong:
        # These weights need the default of any other option that changes the arithmetic.
        wrong |= {
            f"{where}.{key}": (spec[key], default)
            for key, default in defaults.items()
            if key in _ARITHMETIC and key not in wanted and spec.get(key, default) != default
        }
    return wrong


def _defaults(type_name: str, where: str) -> dict[str, Any]:
    registry = BACKBONES if where.endswith("backbone") else MODELS
    parameters = inspect.signature(registry.find(type_name)).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def verify(generation: Generation, golden_dir: Path | None = None) -> tuple[CaseResult, ...]:
    """Run the golden cases of a layout and log each result.

    Raises:
        CheckFailed: a case does not pass.
    """
    results = run_generation(generation, golden_dir)
    for result in results:
        log(f"golden: {result.line()}")
    if any(result.status != PASSED for result in results):
        raise CheckFailed(f"{generation.system} {generation.name} does not pass its golden cases")
    return tuple(results)


def load_published(
    config: Config, generation: Generation, arrays: Mapping[str, np.ndarray], source: str
) -> tuple["nn.Layer", Imported]:
    """The configuration's network, or its backbone, with all tensors of the checkpoint in it.

    Raises:
        UsageError: a tensor is unknown, missing, or of another shape.
    """
    num_classes = config.model.get("num_classes")
    model = build_model(config, num_classes or class_table_of(config).num_classes)
    target = model.backbone if generation.part == "backbone" else model
    tensors = generation.rename(arrays, source, target.state_dict())
    for name in generation.bgr_inputs:
        tensors.arrays[name] = np.ascontiguousarray(tensors.arrays[name][:, ::-1])
        tensors.folded.append((name, name, "turned from BGR to RGB"))
    optional = ("head.", "aux_head") if generation.part == "body" else generation.training_only
    report = load_arrays_into(target, tensors.arrays, source, strict=not optional)
    absent = [name for name in report.missing if name.startswith(optional or ("\0",))]
    report.missing = [name for name in report.missing if name not in absent]
    if not report.complete:
        raise UsageError(f"{source}: {report.describe()}")
    log(f"loaded all but {len(absent)} tensors" if absent else report.describe())
    if absent and generation.part == "model":
        warn(f"{source}: has no {shortened(absent)}: these start fresh, which only training sees")
    return target, tensors


def _describe_network(config: Config, network: "nn.Layer") -> dict[str, Any]:
    """The entries of a manifest that let a checkpoint be opened without a yml."""
    entries: dict[str, Any] = {"network": type(network).__name__, "config": config.raw}
    if "val_dataset" in config.raw:
        entries["classes"] = class_table_of(config).to_dict()
        entries["preprocessing"] = config.val_dataset.get("transforms", [])
    return entries
