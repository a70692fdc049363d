"""A teacher beside the network that is trained: the sections `distillation:` and `distill_loss:`.

The teacher is in evaluation mode and has no gradients, and every batch is seeded by itself, so a
run with it is repeated and resumed to the bit as one without. It is in no checkpoint; its sha256 is
in the state and the manifest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddleseg_ext.checkpoints.manifest import configuration_of, read_manifest
from paddleseg_ext.checkpoints.store import load_arrays_into, read_arrays
from paddleseg_ext.common.errors import UsageError, shown
from paddleseg_ext.common.files import require_file, sha256_of
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import check_kind, from_section, option
from paddleseg_ext.common.paddle2_types import types_for
from paddleseg_ext.config import Config, load_config
from paddleseg_ext.evaluation.other_preprocessing import warn_of_other_training
from paddleseg_ext.images.labels import ClassTable, generic_table

if TYPE_CHECKING:
    from paddle import Tensor, nn

    from paddleseg_ext.losses.distillation import Term
    from paddleseg_ext.training.precision import Precision

SECTION, OF_PADDLESEG = "distillation", "distill_loss"
_TERM_KEYS = ("weight", "head")


@dataclass(frozen=True)
class DistillationOptions:
    """The section `distillation:`."""

    teacher: str | None = option(
        None, "the teacher's `.pdparams`; by default the `pretrained` of `teacher_config`"
    )
    teacher_config: str | None = option(
        None, "yml of the teacher's training; by default the configuration in its manifest"
    )
    losses: list[dict[str, Any]] = option(
        [{"type": "ChannelWiseKLLoss", "weight": 3.0, "temperature": 4.0}],
        "what is added to the loss: `type` (ChannelWiseKLLoss, PixelWiseKLLoss, PaddleSeg's KLLoss "
        "or DistillCrossEntropyLoss), `weight` (1), `head` (0, the main one), and the loss's own "
        "arguments (`temperature`)",
    )


@dataclass(frozen=True)
class Distillation:
    """A checked teacher, and what is learnt from it.

    Attributes:
        weights: the teacher's `.pdparams`.
        config: the teacher's.
        sha256: of `weights`.
        losses: the terms as (loss and its arguments, weight, head, place in the yml).
    """

    weights: Path
    config: Config
    sha256: str
    losses: Sequence[tuple[Mapping[str, Any], float, int, str]]

    def terms(self) -> "list[Term]":
        """The terms for `DistillationLoss`."""
        from paddleseg_ext.losses.distillation import Term

        return [Term(*each) for each in self.losses]


def read_distillation(config: Config) -> Distillation | None:
    """The teacher that a configuration names; None without one. Paddle is not imported.

    Raises:
        UsageError: a key or value is wrong, a file is missing or damaged, or it is not known what
            network the teacher is.
    """
    if config.distillation is None:
        return None
    options = from_section(DistillationOptions, config.distillation, SECTION)
    losses = _losses(config, options)
    teacher_config = None if options.teacher_config is None else load_config(options.teacher_config)
    weights = options.teacher
    if weights is None and teacher_config is not None:
        weights = teacher_config.pretrained
    if weights is None:
        raise UsageError(
            f"{SECTION}: the teacher's weights are missing: give 'teacher' (--teacher_model), or a "
            "'teacher_config' with 'pretrained' in its 'model'"
        )
    path = require_file(weights, f"{SECTION}: teacher")
    if teacher_config is None:
        teacher_config = configuration_of(path)
    teacher_config.section("model")
    return Distillation(path, teacher_config, sha256_of(path), losses)


def teacher_files(config: Config) -> list[str]:
    """The files that describe the teacher, its yml and its weights; they may not exist here."""
    section = config.distillation or {}
    found = [str(section[key]) for key in ("teacher_config", "teacher") if section.get(key)]
    if found and "teacher" not in section and Path(found[0]).is_file():
        found += filter(None, [load_config(found[0]).pretrained])
    return found


def _losses(
    config: Config, options: DistillationOptions
) -> list[tuple[Mapping[str, Any], float, int, str]]:
    """The terms: those of PaddleSeg's `distill_loss:` where it is given, one per head."""
    theirs = config.distill_loss
    if theirs is None:
        if not options.losses:
            raise UsageError(f"{SECTION}.losses: at least one loss is expected, got none")
        return [_term(spec, f"{SECTION}.losses[{i}]") for i, spec in enumerate(options.losses)]
    if "losses" in (config.distillation or {}):
        raise UsageError(f"'{SECTION}.losses' and '{OF_PADDLESEG}' are both given: leave out one")
    types, weights = theirs.get("types"), theirs.get("coef")
    fits = isinstance(types, list) and isinstance(weights, list) and len(types) == len(weights)
    if not fits or not types or set(theirs) != {"types", "coef"}:
        raise UsageError(
            f"{OF_PADDLESEG}: 'types' and 'coef' are expected, lists of one loss and one weight "
            f"per head, got {shown(theirs)}"
        )
    return [
        _term({**_section(spec, where), "weight": weight, "head": head}, where)
        for head, (spec, weight) in enumerate(zip(types, weights or [], strict=True))
        for where in [f"{OF_PADDLESEG}.types[{head}]"]
    ]


def _section(spec: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(spec, Mapping):
        raise UsageError(f"{where}: a section with 'type: NAME' is expected, got {shown(spec)}")
    return spec


def _term(spec: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], float, int, str]:
    weight, head = spec.get("weight", 1.0), spec.get("head", 0)
    check_kind(where, "weight", weight, float)
    check_kind(where, "head", head, int)
    if not 0 < weight < float("inf") or head < 0:
        raise UsageError(f"{where}: a weight above 0 and a head from 0 are expected, got {spec}")
    return {k: v for k, v in spec.items() if k not in _TERM_KEYS}, float(weight), head, where


class Distiller:
    """A teacher and the loss between it and the network that is trained."""

    def __init__(self, distillation: Distillation, config: Config, dataset: Any):
        """
        Args:
            distillation: the teacher's files.
            config: of the training.
            dataset: training samples, whose classes the teacher must have.

        Raises:
            UsageError: the teacher has other classes or input channels, its file is of another
                network or holds NaN, or a loss is unknown.
        """
        from paddleseg_ext.losses.distillation import DistillationLoss

        self.loss: DistillationLoss = DistillationLoss(distillation.terms(), dataset.ignore_index)
        self.teacher = _open_teacher(distillation, config, dataset)

    def term(
        self, images: "Tensor", heads: "Sequence[Tensor]", labels: "Tensor", precision: "Precision"
    ) -> "Tensor":
        """The teacher's term of the loss, a scalar.

        Args:
            images: `(N, channels, H, W)`.
            heads: the student's logits of them.
            labels: `(N, H, W)` int64.
            precision: of the forward pass.

        Raises:
            UsageError: see `DistillationLoss.forward`.
        """
        import paddle

        with paddle.no_grad(), types_for(self.teacher):
            theirs = precision.forward(self.teacher, images)
        return self.loss(heads, theirs, labels)

    def rehearse(self, images: "Tensor", heads: "Sequence[Tensor]", labels: "Tensor") -> None:
        """Compute the term once in float32, see `term`.

        Raises:
            UsageError: as `term`; or the teacher's logits are not finite.
        """
        import paddle

        from paddleseg_ext.training.precision import FP32, Precision

        self.term(images, heads, labels, Precision(FP32))
        with types_for(self.teacher):
            theirs = self.teacher(images)
        if not all(bool(paddle.isfinite(logits).all()) for logits in theirs):
            raise UsageError(
                f"{SECTION}: the logits of the teacher, {type(self.teacher).__name__}, of the "
                "first training image are not finite: its weights are damaged or of another network"
            )


def _open_teacher(distillation: Distillation, config: Config, dataset: Any) -> "nn.Layer":
    """The teacher's network with its weights, in evaluation mode."""
    from paddleseg_ext.models.build import build_model

    path = distillation.weights
    _require_same_classes(distillation, config, dataset.class_table)
    arrays = read_arrays(path)
    model = build_model(distillation.config, dataset.num_classes)
    report = load_arrays_into(model, arrays, f"{SECTION}: {path}")
    model.eval()
    for parameter in model.parameters():
        parameter.stop_gradient = True
    log(f"{SECTION}: the teacher is {type(model).__name__} of {path}: {report.describe()}")
    warn_of_other_training(config, path)
    return model


def _require_same_classes(distillation: Distillation, config: Config, table: ClassTable) -> None:
    """Refuse a teacher whose manifest names other classes than the data has, or other channels."""
    path, theirs = distillation.weights, distillation.config
    if theirs.img_channels != config.img_channels:
        raise UsageError(
            f"{SECTION}: {path}: the teacher takes images of {theirs.img_channels} channels, this "
            f"training has {config.img_channels}"
        )
    recorded = read_manifest(path).classes
    if recorded is None:
        return  # the shapes of its tensors decide
    names = ClassTable.from_dict(recorded, f"{path}: classes").class_names
    unnamed = generic_table(len(names)).class_names
    differ = names != table.class_names and unnamed not in (names, table.class_names)
    if len(names) != table.num_classes or differ:
        raise UsageError(
            f"{SECTION}: {path}: the teacher was trained on {len(names)} classes, "
            f"{shown(list(names))}, the data has {table.num_classes}, "
            f"{shown(list(table.class_names))}; take a teacher of these classes, in this order"
        )
