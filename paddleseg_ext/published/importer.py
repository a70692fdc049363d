"""Conversion of a published checkpoint to a `.pdparams` of our networks.

    import_checkpoint("model.pth", None, "r18.pdparams", ImportOptions(verify=True))

The manifest of a whole network holds its configuration, so that the checkpoint can be opened
without one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paddleseg_ext.checkpoints.manifest import CheckpointManifest
from paddleseg_ext.checkpoints.store import (
    load_arrays_into,
    require_finite,
    save_arrays,
    weights_of,
)
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
from paddleseg_ext.published.recipes import (
    ShippedConfig,
    check_network,
    count_classes,
    fitting,
    recipes_of,
)
from paddleseg_ext.published.systems import AUTO, recognise

if TYPE_CHECKING:
    from paddle import nn

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
    config: Config | None,
    save_path: str | Path,
    options: ImportOptions | None = None,
) -> ImportResult:
    """Convert a published checkpoint, and write it with a manifest.

    Args:
        weights: the checkpoint, in any of the formats of `files.read_published`.
        config: names the network that the weights belong to; None takes the shipped one that
            fits layout and class count.
        save_path: the `.pdparams` to write.
        options: by default the layout is recognised and nothing is verified.

    Raises:
        UsageError: the layout is unknown or ambiguous, the configuration has another network, or
            a tensor is unknown, missing, misshapen or not finite. Nothing is written.
        CheckFailed: a golden case does not pass. Nothing is written.
    """
    options = options or ImportOptions()
    save_path, source = Path(save_path), str(weights)
    if save_path.suffix != ".pdparams":
        raise UsageError(f"--save_path: a name ending in .pdparams is expected, got '{save_path}'")
    require_writable(save_path.parent, "--save_path")
    arrays = read_published(weights)
    require_finite(arrays, source)
    generation = recognise(arrays, options.system, options.generation, source)
    log(f"{source}: {generation.system} {generation.name}: {generation.title}")
    config = choose_config(config, generation, arrays, source)
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


def choose_config(
    config: Config | None, generation: Generation, arrays: Mapping[str, np.ndarray], source: str
) -> Config:
    """The configuration of a checkpoint: the given one if it fits, without one a shipped one.

    Raises:
        UsageError: the given one has another network or class count; the right one is named.
    """
    recipes = recipes_of(generation)
    wrong = check_network(config, generation) if config else ""
    if generation.part != "model":
        if config and wrong:
            raise UsageError(
                f"{config.path}: {wrong}; a network that starts from {source}, "
                f"{generation.system} {generation.name}, is --config {recipes[0].name}"
            )
        return config or recipes[0].config
    num_classes = count_classes(generation, arrays, source, recipes[0])
    right = fitting(recipes, num_classes)
    if config:
        stated = config.model.get("num_classes") or class_table_of(config).num_classes
        if not wrong and stated != num_classes:
            wrong = f"it has {stated} classes"
        if wrong:
            raise UsageError(
                f"{config.path}: {wrong}; {source} is {generation.system} {generation.name} with "
                f"{num_classes} classes{_remedy(right, num_classes)}"
            )
        return config
    if right[0].num_classes != num_classes:
        warn(
            f"{source}: {num_classes} classes, which no shipped configuration of this network has; "
            f"taken as {right[0].name} with classes that have numbers only. A yml with your data "
            "set gives them names: --config"
        )
        return right[0].with_classes(num_classes)
    log(f"{source}: {num_classes} classes, as --config {right[0].name}")
    if others := ", ".join(recipe.name for recipe in right[1:]):
        warn(f"{source}: {others} has this network and class count, too: --config says which")
    return right[0].config


def _remedy(right: Sequence[ShippedConfig], num_classes: int) -> str:
    """Which `--config` to give, for messages."""
    names = " or ".join(recipe.name for recipe in right)
    if right[0].num_classes == num_classes:
        return f": --config {names}"
    return f": a yml that extends {names} by a data set of {num_classes} classes, or no --config"


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
