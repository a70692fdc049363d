"""Lookup of the `type:` of a yml: our components first, then PaddleSeg's.

The tables below list every component of ours as `module:Class`. So names can be checked without
importing Paddle, and a reader finds a component's file here.

`type: X` finds ours where its arguments fit, else PaddleSeg's; `type: paddleseg.X` only
PaddleSeg's; `registry: paddleseg` at the top of a yml makes that the rule for the whole file. The
parts of a network of PaddleSeg's are PaddleSeg's. PaddleSeg's own manager is not touched.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from paddleseg_ext.common.errors import DataError, UsageError, nearest_name, reason_of, shown
from paddleseg_ext.common.log import log
from paddleseg_ext.common.packages import INSTALL_PADDLESEG, how_to_install
from paddleseg_ext.common.transform_arguments import check_transform

PADDLESEG_PREFIX = "paddleseg."


class Registry:
    """The components of one kind: ours, imported when used, and PaddleSeg's."""

    def __init__(self, kind: str, targets: list[str], paddleseg_manager: str | None = None):
        """
        Args:
            kind: word for a component in messages ("model").
            targets: names of the form `package.module:Class`; the class name is the `type`.
            paddleseg_manager: attribute of `paddleseg.cvlibs.manager` with PaddleSeg's components.

        Raises:
            ValueError: two targets have the same name.
        """
        self.kind = kind
        self._targets: dict[str, str] = {}
        self._paddleseg_manager = paddleseg_manager
        for target in targets:
            self.register(target)

    def register(self, target: str) -> None:
        """Add `package.module:Class`; raises `ValueError` for a duplicate class name."""
        name = target.partition(":")[2]
        if name in self._targets:
            raise ValueError(f"{self.kind} '{name}' is registered twice: {target}")
        self._targets[name] = target

    @property
    def names(self) -> list[str]:
        """The names of our own components."""
        return sorted(self._targets)

    def is_ours(self, type_name: str, only_paddleseg: bool = False) -> bool:
        """Whether `type: type_name` names a component of ours."""
        return type_name in self._targets and not only_paddleseg

    def is_in_paddleseg(self, type_name: str) -> bool:
        """Whether PaddleSeg, where it is installed, has a component of this name."""
        try:
            return type_name.removeprefix(PADDLESEG_PREFIX) in self._paddleseg_components()
        except ModuleNotFoundError:
            return False

    def find(self, type_name: str, only_paddleseg: bool = False) -> Callable[..., Any]:
        """The class that `type: type_name` names.

        Raises:
            UsageError: it is unknown; the message names the nearest.
        """
        if self.is_ours(type_name, only_paddleseg):
            module, _, attribute = self._targets[type_name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        try:
            components = self._paddleseg_components()
        except ModuleNotFoundError as error:
            raise self._without_paddleseg(type_name, error.name or "paddleseg") from None
        plain = type_name.removeprefix(PADDLESEG_PREFIX)
        if plain in components:
            return components[plain]
        known = list(components) if only_paddleseg else [*self._targets, *components]
        raise UsageError(f"unknown {self.kind} '{type_name}'{nearest_name(plain, known)}")

    def _without_paddleseg(self, type_name: str, package: str) -> UsageError:
        """The refusal of a component that only PaddleSeg may have."""
        theirs = type_name.startswith(PADDLESEG_PREFIX) or type_name in self._targets
        nearest = "" if theirs else f" is none of ours{nearest_name(type_name, self._targets)}, and"
        if package == "paddleseg":
            lacks = f"which is not installed: {INSTALL_PADDLESEG}"
        else:
            lacks = f"and {package} for it is not installed: {how_to_install('cpu')}"
        return UsageError(f"{self.kind} '{type_name}'{nearest} needs PaddleSeg, {lacks}")

    def _paddleseg_components(self) -> Mapping[str, Any]:
        if self._paddleseg_manager is None:
            return {}
        # libpaddle 2.6 exports a zlib of its own. If it is loaded before Python's, importing
        # PaddleSeg (through PIL) crashes. Harmless on 3.x.
        import zlib  # noqa: F401

        import paddleseg  # noqa: F401
        from paddleseg.cvlibs import manager

        return getattr(manager, self._paddleseg_manager).components_dict


MODELS = Registry(
    "model",
    [
        "paddleseg_ext.models.backbones.stdcnet:STDCClassifier",
        "paddleseg_ext.models.bisenetv1:BiSeNetV1",
        "paddleseg_ext.models.bisenetv1_xception:BiSeNetV1Xception",
        "paddleseg_ext.models.bisenetv2:BiSeNetV2",
        "paddleseg_ext.models.dabnet:DABNet",
        "paddleseg_ext.models.stdcseg:STDCSeg",
    ],
    paddleseg_manager="MODELS",
)
BACKBONES = Registry(
    "backbone",
    [
        "paddleseg_ext.models.backbones.efficientnet:EfficientNetB1",
        "paddleseg_ext.models.backbones.resnet:ResNet101",
        "paddleseg_ext.models.backbones.resnet:ResNet101_v1c",
        "paddleseg_ext.models.backbones.resnet:ResNet18",
        "paddleseg_ext.models.backbones.resnet:ResNet50",
        "paddleseg_ext.models.backbones.resnet_v1c:ResNet18_v1c",
        "paddleseg_ext.models.backbones.resnet_vd:ResNet18_vd",
        "paddleseg_ext.models.backbones.stdcnet:STDCNet1446",
        "paddleseg_ext.models.backbones.stdcnet:STDCNet813",
        "paddleseg_ext.models.backbones.xception:Xception39",
    ],
    paddleseg_manager="BACKBONES",
)
LOSSES = Registry(
    "loss",
    [
        "paddleseg_ext.losses.cross_entropy:CrossEntropyLoss",
        "paddleseg_ext.losses.cross_entropy:DiceLoss",
        "paddleseg_ext.losses.detail:DetailAggregateLoss",
        "paddleseg_ext.losses.detail:MMSegDetailLoss",
        "paddleseg_ext.losses.ohem:CoinCheungOhemLoss",
        "paddleseg_ext.losses.ohem:OhemCrossEntropyLoss",
        "paddleseg_ext.losses.ohem:StdcOhemLoss",
    ],
    paddleseg_manager="LOSSES",
)
# Losses between two networks: `forward(student, teacher, labels)`.
DISTILLATION_LOSSES = Registry(
    "distillation loss",
    [
        "paddleseg_ext.losses.distillation:ChannelWiseKLLoss",
        "paddleseg_ext.losses.distillation:PixelWiseKLLoss",
    ],
    paddleseg_manager="LOSSES",
)
DATASETS = Registry(
    "dataset",
    [
        "paddleseg_ext.data.datasets:Cityscapes",
        "paddleseg_ext.data.datasets:ListDataset",
        "paddleseg_ext.data.published:ADE20K",
        "paddleseg_ext.data.published:CamVid",
        "paddleseg_ext.data.published:CelebAMaskHQ",
        "paddleseg_ext.data.published:CocoStuff10k",
        "paddleseg_ext.data.published:CocoStuff164k",
    ],
    paddleseg_manager="DATASETS",
)
TRANSFORMS = Registry(
    "transform",
    [
        "paddleseg_ext.data.colour_transforms:CoinCheungColorJitter",
        "paddleseg_ext.data.colour_transforms:PhotoMetricDistortion",
        "paddleseg_ext.data.transforms:Normalize",
        "paddleseg_ext.data.transforms:Padding",
        "paddleseg_ext.data.transforms:RandomDistort",
        "paddleseg_ext.data.transforms:GenerateInstanceTargets",
        "paddleseg_ext.data.transforms:RandomHorizontalFlip",
        "paddleseg_ext.data.transforms:RandomPaddingCrop",
        "paddleseg_ext.data.transforms:Resize",
        "paddleseg_ext.data.transforms:ResizeRangeScaling",
        "paddleseg_ext.data.transforms:ResizeStepScaling",
    ],
    paddleseg_manager="TRANSFORMS",
)


def build(
    registry: Registry,
    spec: Mapping[str, Any],
    where: str,
    only_paddleseg: bool = False,
    **defaults: Any,
) -> Any:
    """Returns the component that a section of a yml describes.

    Args:
        registry: of the component's kind.
        spec: `type` and the constructor's arguments.
        where: the section's name in messages ("model.backbone").
        only_paddleseg: whether the yml has `registry: paddleseg`.
        defaults: arguments for constructors that take them, where `spec` has no value.

    Raises:
        UsageError: no `type`, an unknown type, an argument that the constructor does not take (the
            nearest is named), a missing one, or one that it rejects.
    """
    factory = checked_factory(registry, spec, where, only_paddleseg)
    is_ours = not means_paddlesegs(registry, spec, only_paddleseg)
    arguments = {key: value for key, value in spec.items() if key != "type"}
    if not is_ours:
        arguments = {k: _build_parts(v, f"{where}.{k}") for k, v in arguments.items()}
    parameters = inspect.signature(factory).parameters
    takes_any = _takes_any(parameters)
    if registry is TRANSFORMS:
        check_transform(f"{where}: {spec['type']}", arguments)
    for key, value in defaults.items():
        if key in parameters or takes_any:
            arguments.setdefault(key, value)
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and name not in arguments
    ]
    if missing:
        raise UsageError(f"{where}: {spec['type']} needs '{missing[0]}'")
    try:
        with _placed(where):
            return factory(**arguments)
    except UsageError:
        raise
    except Exception as error:
        is_refusal = isinstance(error, TypeError | ValueError | AssertionError)
        # PaddleSeg's raise RuntimeError, AttributeError and Exception, too
        if not is_refusal and (is_ours or isinstance(error, OSError)):
            raise
        reason = str(error)
        if not is_refusal or "\n" in reason:  # Paddle's have a stack of calls
            reason = reason_of(error)
        raise UsageError(f"{where}: {spec['type']}: {reason}") from error


def means_paddlesegs(
    registry: Registry, spec: Mapping[str, Any], only_paddleseg: bool = False
) -> bool:
    """Whether a section describes a component of PaddleSeg's.

    Of a name that both have, ours is meant, unless it lacks one of the section's arguments, or
    takes no such backbone, and PaddleSeg's class names every argument.
    """
    type_name = spec.get("type")
    if not isinstance(type_name, str) or not registry.is_ours(type_name, only_paddleseg):
        return True
    ours = inspect.signature(registry.find(type_name)).parameters
    keys = [key for key in spec if key != "type"]
    backbone = spec.get("backbone")
    fits = all(key in ours for key in keys) or _takes_any(ours)
    if isinstance(backbone, Mapping) and isinstance(backbone.get("type"), str):
        fits = fits and BACKBONES.is_ours(backbone["type"])
    return not fits and registry.is_in_paddleseg(type_name) and has_arguments(registry, spec)


def has_arguments(registry: Registry, spec: Mapping[str, Any]) -> bool:
    """Whether PaddleSeg's component of a section's `type` names every argument of the section."""
    theirs = inspect.signature(registry.find(spec["type"], only_paddleseg=True)).parameters
    return all(key in theirs for key in spec if key != "type")


def _build_parts(value: Any, where: str) -> Any:
    """A value of a component of PaddleSeg's, with the components in it built, as PaddleSeg does."""
    if isinstance(value, list):
        return [_build_parts(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
        return value
    for registry in (MODELS, BACKBONES, DATASETS, TRANSFORMS, LOSSES):  # PaddleSeg's order
        if registry.is_in_paddleseg(value["type"]):
            return build(registry, value, where, only_paddleseg=True)
    return build(MODELS, value, where, only_paddleseg=True)  # which names the nearest


def checked_factory(
    registry: Registry, spec: Mapping[str, Any], where: str, only_paddleseg: bool = False
) -> Callable[..., Any]:
    """Returns the constructor that a section names; it takes every argument of the section.

    Raises:
        UsageError: no `type`, an unknown type, or an argument that the constructor does not take.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("type"), str):
        raise UsageError(f"{where}: a section with 'type: NAME' is expected, got {shown(spec)}")
    with _placed(where):
        instead = registry.is_ours(spec["type"], only_paddleseg) and means_paddlesegs(
            registry, spec, only_paddleseg
        )
        factory = registry.find(spec["type"], only_paddleseg or instead)
    if instead:
        log(f"{where}: {spec['type']} is PaddleSeg's, which has these arguments; ours has not")
    parameters = inspect.signature(factory).parameters
    takes_any = _takes_any(parameters)
    for key, value in spec.items():
        if key == "type":
            continue
        if key not in parameters and not takes_any:
            hint = _takes_it(registry, spec["type"], key) or nearest_name(key, parameters)
            raise UsageError(f"{where}: {spec['type']} takes no '{key}'{hint}")
        is_switch = key in parameters and isinstance(parameters[key].default, bool)
        if is_switch and isinstance(value, str):  # "false" would count as true
            raise UsageError(f"{where}: '{key}' must be true or false, got the word {shown(value)}")
    return factory


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _takes_it(registry: Registry, type_name: str, key: str) -> str:
    """The remedy where not ours, but PaddleSeg's component of the same name has an argument."""
    if not registry.is_ours(type_name) or not registry.is_in_paddleseg(type_name):
        return ""
    theirs = registry.find(type_name, only_paddleseg=True)
    if key not in inspect.signature(theirs).parameters:
        return ""
    return f"; PaddleSeg's does: type: {PADDLESEG_PREFIX}{type_name}"


@contextmanager
def _placed(where: str) -> Iterator[None]:
    """Prefix a `UsageError` raised inside with the section's name, unless it begins with it."""
    try:
        yield
    except UsageError as error:
        if isinstance(error, DataError) or str(error).startswith(where):
            raise
        raise type(error)(f"{where}: {error}") from None
