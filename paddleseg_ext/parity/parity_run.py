"""Compare a bundle with its network: what `parity` does.

    result = compare_bundle(
        read_bundle("output/bundle"),
        ParityOptions("val.list", model_path="model.pdparams", stages=["static", "openvino"]),
        load_config("net.yml"),
    )
    result.grade, result.outcomes

Nothing is written but by `ParityResult.write`.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from paddleseg_ext.checkpoints.manifest import read_manifest
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file, write_json, write_text
from paddleseg_ext.common.flags import positive_int
from paddleseg_ext.common.log import log, warn
from paddleseg_ext.common.options import CheckedOptions, option, switch
from paddleseg_ext.config import Config
from paddleseg_ext.data.build import class_table_of
from paddleseg_ext.evaluation.budgets import read_budgets
from paddleseg_ext.evaluation.bundle_protocol import bundle_rule, why_not_by_graph
from paddleseg_ext.evaluation.eager import EagerEngine, eager_predictor
from paddleseg_ext.evaluation.other_preprocessing import other_size
from paddleseg_ext.evaluation.protocol_choice import requested_rule
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.samples import Sample, collect_samples, evenly, image_sizes
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import RuntimeSpec, known_runtimes
from paddleseg_ext.parity import page, report
from paddleseg_ext.parity.checkpoint import Checkpoint
from paddleseg_ext.parity.classes import why_other_classes
from paddleseg_ext.parity.compare import Comparison, Outcome, compare_all, runs_of
from paddleseg_ext.parity.controls import Control, run_controls
from paddleseg_ext.parity.divergence import Evidence
from paddleseg_ext.parity.layer_finder import LayerFinder
from paddleseg_ext.parity.producers import (
    PRODUCERS,
    compare_producers,
    producer_runs,
    require_programs,
)
from paddleseg_ext.parity.reference import Reference, with_output_op
from paddleseg_ext.parity.report import first_of
from paddleseg_ext.parity.stages import (
    DEFAULT_LEGACY_STAGES,
    DEFAULT_STAGES,
    EAGER,
    parse_stages,
    stage_names,
)
from paddleseg_ext.scoring.protocols import EvaluationRule, Protocol

QUICK_IMAGES = 2
RESULTS, JUNIT, PAGE = "results.json", "junit.xml", "report.html"


@dataclass(frozen=True)
class ParityOptions(CheckedOptions):
    """What a bundle is compared with, and how."""

    image_list: str = option(
        MISSING,
        "a list with 'image label' in each line (or an image or folder: no counts then)",
        names=("--data",),
        metavar="PATH",
    )
    model_path: str | None = option(
        None,
        "the checkpoint; without it the first stage is the reference",
        names=("--weights",),
        metavar="PDPARAMS",
    )
    stages: Sequence[str] | None = option(
        None,
        "runtimes and producers, separated by commas or spaces: "
        f"{', '.join([*known_runtimes(), *PRODUCERS])} "
        f"(default: {' '.join(DEFAULT_STAGES)})",
        metavar="STAGE",
    )
    cpu_threads: Sequence[int] = option(
        [1, 2], "thread counts of every runtime", parse=positive_int
    )
    batch_size: Sequence[int] = option([1, 2], "batch sizes of every runtime", parse=positive_int)
    budgets: Path | None = option(
        None,
        "by how much each precision may differ, where not by paddleseg_ext/evaluation/budgets.yml",
        metavar="YML",
    )
    results: Sequence[str] = option(
        [],
        "also compare what val.py, predict.py or infer.py left in their --save_dir",
        action="extend",
        metavar="NAME=DIR",
    )
    negative_controls: bool = switch(
        "also run faults that the comparison must notice (a changed weight, a stale checkpoint, a "
        "dropped Normalize, swapped channels, shifted labels, a wrong fuse pass), and fail if it "
        "does not, or calls one by another name; stages of bf16 and INT8 run them, too"
    )
    quick: bool = switch(
        f"a smaller claim in a fraction of the time: {QUICK_IMAGES} images, evenly from the list, "
        "in each runtime once, with the most of --cpu_threads and the first of --batch_size; "
        "report and record say so"
    )

    def runtimes(self, is_legacy: bool = False) -> list[RuntimeSpec]:
        """The stages, each once.

        Args:
            is_legacy: whether the graph is a `.pdmodel`; the default has no `static` then.

        Raises:
            UsageError: see `parse_stages`.
        """
        default = DEFAULT_LEGACY_STAGES if is_legacy else DEFAULT_STAGES
        names = [name for name in stage_names(self.stages or default) if name not in PRODUCERS]
        return parse_stages(names) if names or not self.producers() else []

    def producers(self) -> list[str]:
        """The stages that are programs of their own."""
        return [name for name in stage_names(self.stages or ()) if name in PRODUCERS]

    def ways(self) -> tuple[Sequence[int], Sequence[int]]:
        """Thread counts and batch sizes of every runtime."""
        if self.quick:
            return [max(self.cpu_threads)], self.batch_size[:1]
        return self.cpu_threads, self.batch_size

    def samples(self) -> list[Sample]:
        """The images that are compared.

        Raises:
            UsageError: no such list.
        """
        listed = collect_samples(self.image_list)
        return evenly(listed, QUICK_IMAGES) if self.quick else listed

    def smaller_claim(self) -> str:
        """The claim of a quick comparison, and its gaps; empty for a whole one."""
        if not self.quick:
            return ""
        listed, threads, sizes = len(collect_samples(self.image_list)), *self.ways()
        return (
            f"quick: {len(self.samples())} of {listed} images, {threads[0]} threads and batches "
            f"of {sizes[0]} only, no negative controls; parity without --quick says more"
        )

    def check(self, has_config: bool) -> None:
        """Refuse what cannot be compared; loads no network and no engine.

        Args:
            has_config: whether the network's configuration is given.

        Raises:
            UsageError: a stage that needs a checkpoint, nothing to compare, or a missing file.
        """
        names = [*(stage.name for stage in self.runtimes()), *self.producers()]
        if self.producers():
            require_programs(self.producers())
        if self.model_path is None:
            if names[0] in PRODUCERS:
                raise UsageError(
                    "--stages: without --model_path the first stage is the reference: a runtime, "
                    f"not {names[0]}"
                )
            if EAGER in names:
                raise UsageError(
                    "--stages: eager needs the network's checkpoint: give --model_path"
                )
            if len(names) < 2 and not self.results:
                raise UsageError(
                    "--stages: without --model_path the first stage is what others are compared "
                    f"with; at least two are expected, got {', '.join(names)}"
                )
        elif not has_config:
            raise UsageError("--model_path needs the network's --config")
        elif names == [EAGER] and not self.results:
            raise UsageError(
                "--stages: eager is what others are compared with; name one more "
                f"({', '.join(DEFAULT_STAGES)}, ...), or give --results"
            )
        if self.quick and (self.negative_controls or self.results):
            what = "--negative_controls" if self.negative_controls else "--results"
            raise UsageError(
                f"--quick compares {QUICK_IMAGES} images only, {what} needs the whole comparison: "
                "leave one of the two out"
            )
        if self.model_path is not None:
            require_file(self.model_path, "--model_path")
        collect_samples(self.image_list)
        read_budgets(self.budgets)
        read_folders(self.results)


@dataclass(frozen=True)
class ParityResult:
    """The result of one comparison.

    Attributes:
        outcomes: per run, those that were done before first.
        controls: the negative ones, if they were asked for.
        faults: of the bundle itself; see `Comparison`.
        notes: warnings to read before the verdicts.
        content: of `results.json`.
    """

    outcomes: Sequence[Outcome]
    controls: Sequence[Control]
    faults: Sequence[str]
    notes: Sequence[str]
    content: dict[str, Any]

    @property
    def grade(self) -> str:
        """The worst grade of the runs; `failed` where a fault went unnoticed."""
        return self.content["grade"]

    def check(self) -> None:
        """Raise an error unless every run agrees.

        Raises:
            CheckFailed: see `report.check_outcomes`.
        """
        report.check_outcomes(self.outcomes, self.controls, first_of(self.faults))

    def write(self, save_dir: str | Path) -> None:
        """Write results.json, junit.xml and report.html."""
        folder = Path(save_dir)
        write_json(folder / RESULTS, self.content)
        report.write_junit(folder / JUNIT, report.parity_cases(self.content))
        write_text(folder / PAGE, page.page(self.content, self.outcomes, self.notes))
        claim = f" of {self.content['quick']}" if self.content["quick"] else ""
        log(f"[PARITY] verdict: {self.grade}{claim} (details in {folder / PAGE})")


def compare_bundle(
    bundle: Bundle,
    options: ParityOptions,
    config: Config | None = None,
    export_network: Callable[[Path], Bundle] | None = None,
) -> ParityResult:
    """Run a bundle in every stage and compare each run with the network's own predictions.

    Args:
        bundle: the exported network.
        options: the images, the checkpoint, the stages.
        config: the network's configuration; needed with a checkpoint, and for a bundle that does
            not hold its classes.
        export_network: writes the network's own bundle into an empty folder, so that a failed graph
            is compared with it layer by layer.

    Raises:
        UsageError: see `ParityOptions.check`; or the classes are unknown.
        DataError: no image that the reference can use; one that it cannot fails alone.
    """
    options.check(config is not None)
    stages = options.runtimes(bundle.is_legacy)
    absent = config.absent_class if config else "skip"
    with (
        tempfile.TemporaryDirectory(prefix="parity-") as folder,
        tempfile.TemporaryDirectory(prefix="graphs-") as graphs,
    ):
        first = stages[0] if stages else RuntimeSpec(EAGER)
        comparison = _open_comparison(bundle, options, config, first, Path(folder))
        export = export_network and partial(export_network, Path(graphs))
        evidence = replace(comparison.evidence, find_layer=LayerFinder(export))
        comparison = replace(comparison, evidence=evidence)
        reference, faults = comparison.reference, comparison.faults
        for fault in faults:
            warn(f"[PARITY] {fault}")
        others = [stage for stage in stages if stage.name != reference.stage]
        runs = runs_of(bundle, others, *options.ways(), reference.samples)
        scores, resized = None, ""
        if options.model_path and config:
            scores = read_manifest(options.model_path).scores
            resized = other_size(config, options.model_path)
        outcomes = compare_all(comparison, runs, read_folders(options.results), scores, resized)
        produced = producer_runs(options.producers(), *options.ways())
        with tempfile.TemporaryDirectory(prefix="producers-") as work:
            outcomes += compare_producers(produced, comparison, Path(work))
        controls: list[Control] = []
        if options.negative_controls:
            with tempfile.TemporaryDirectory(prefix="controls-") as work:
                controls = run_controls(comparison, others, Path(work))
        source = {"config": config.path if config else None, "model_path": options.model_path}
        source |= {"image_list": options.image_list, "bundle": bundle.deploy_file}
        named = {name: str(value) for name, value in source.items() if value is not None}
        claim = options.smaller_claim()
        content = report.results(comparison, outcomes, controls, named, absent)
        content["quick"] = claim
    one_sided = reference.one_sided()
    if one_sided:
        warn(f"[PARITY] {one_sided}")
    notes = [note for note in (claim, *faults, one_sided) if note]
    return ParityResult(outcomes, controls, faults, notes, content)


def _open_comparison(
    bundle: Bundle,
    options: ParityOptions,
    config: Config | None,
    first_stage: RuntimeSpec,
    folder: Path,
) -> Comparison:
    """Run the reference over all images; its label maps are kept in the folder."""
    # Only images of one size can share a batch, so those of one size are neighbours.
    samples = sorted(options.samples(), key=lambda sample: image_sizes([sample.image]))
    table, budgets = _class_table(bundle, config), read_budgets(options.budgets)
    protocol = _protocol(bundle, config)
    wrong_classes = why_other_classes(bundle, table, str(config.path) if config else "")
    if options.model_path is None or config is None:
        predictor = Predictor.of_bundle(bundle, first_stage, class_table=table)
        reference = Reference(by_protocol(predictor, protocol), samples, folder)
        faults, evidence = list(filter(None, [wrong_classes])), Evidence(bundle.transforms)
        return Comparison(bundle, reference, budgets, evidence, faults, protocol)
    eager = eager_predictor(config, options.model_path, "cpu", table)
    checkpoint = Checkpoint(options.model_path, partial(_tensors_of, eager.engine))
    evidence = Evidence(config.val_dataset.get("transforms") or [], checkpoint)
    weights = checkpoint.why_stale(bundle) or checkpoint.why_changed(bundle)
    faults = list(filter(None, [weights, wrong_classes]))
    ends_alike = with_output_op(eager, bundle.output_op)
    reference = Reference(by_protocol(ends_alike, protocol), samples, folder)
    return Comparison(bundle, reference, budgets, evidence, faults, protocol)


def _protocol(bundle: Bundle, config: Config | None) -> Protocol:
    """The protocol that images are compared by: that of the evaluation, where a graph can run it.

    Else `whole`, and one line says so.
    """
    rule = bundle_rule(bundle)
    if config is not None:
        rule = requested_rule(config.test_config, config.absent_class)
    reason = why_not_by_graph(rule, bundle)
    if reason:
        warn(
            f"[PARITY] the network is evaluated by {rule.protocol}; label maps of whole images are "
            f"compared: {reason}"
        )
    return EvaluationRule().make() if reason else rule.make()


def _tensors_of(engine: Engine) -> list[NDArray]:
    assert isinstance(engine, EagerEngine)
    return [tensor.numpy() for tensor in engine.model.state_dict().values()]


def _class_table(bundle: Bundle, config: Config | None) -> ClassTable:
    """The classes of the configuration, else of the bundle."""
    if config is not None:
        return class_table_of(config)
    if bundle.manifest is None:
        raise UsageError(
            f"{bundle.deploy_file} does not say which classes there are: give --config"
        )
    return bundle.manifest.class_table


def read_folders(pairs: Sequence[str]) -> list[tuple[str, Path]]:
    """Name and folder of every `NAME=DIR`.

    Raises:
        UsageError: no `=`, a name that is given twice, or not a folder.
    """
    folders = []
    for pair in pairs:
        name, separator, folder = pair.partition("=")
        if not separator or not Path(folder).is_dir():
            raise UsageError(f"--results: NAME=DIR with an existing folder is expected: '{pair}'")
        folders.append((name, Path(folder)))
    twice = [name for name, times in Counter(name for name, _ in folders).items() if times > 1]
    if twice:
        raise UsageError(f"--results: the name '{twice[0]}' is given twice")
    return folders
