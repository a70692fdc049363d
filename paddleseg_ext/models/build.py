"""The `model:` section of a yml -> a network, ours or PaddleSeg's, with its `pretrained:`."""

import copy
import importlib.util
import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from paddleseg_ext.checkpoints.manifest import read_manifest
from paddleseg_ext.checkpoints.store import load_arrays_into, read_arrays
from paddleseg_ext.common.errors import UsageError, shown
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.log import log
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.config import Config
from paddleseg_ext.models.starting_weights import BACKBONE_KEY, files_to_start_from
from paddleseg_ext.registry import (
    BACKBONES,
    MODELS,
    PADDLESEG_PREFIX,
    Registry,
    build,
    checked_factory,
    means_paddlesegs,
)

if TYPE_CHECKING:
    from paddle import nn

# Backbones of PaddleSeg 2.8 that read the file of `pretrained` themselves, and always.
LOADING_BACKBONES = ("CAE", "VisionTransformer")
BACKBONE = "backbone"
POSITIONS = "pos_embed"


def build_model(config: Config, num_classes: int) -> "nn.Layer":
    """Builds the network of `model:`, with fresh weights.

    `pretrained` keys, also the backbone's, are not passed on: PaddleSeg's networks would fetch the
    files from the web in their constructors. `load_pretrained` reads them.

    Args:
        config: the configuration.
        num_classes: of the data set; `model.num_classes` must agree where it is given.

    Raises:
        UsageError: an unknown network or argument, a class count that disagrees, or other input
            channels than the images have.
    """
    fix_thread_count()  # networks import Paddle, which reads the environment once
    spec = copy.deepcopy(config.model)
    stated = spec.get("num_classes", num_classes)
    if stated != num_classes:
        raise UsageError(
            f"{config.path}: model.num_classes is {stated}, the data set has {num_classes} classes"
        )
    spec.pop("pretrained", None)
    theirs = means_paddlesegs(MODELS, spec, config.only_paddleseg)
    with _paddlesegs_building() if theirs else nullcontext():
        model = _build(config, spec, num_classes, theirs)
    if theirs:
        _name_apart(model)
    replace_gpu_norms(model)
    return model


def _build(config: Config, spec: dict[str, Any], num_classes: int, theirs: bool) -> "nn.Layer":
    """The network of a section without `pretrained`; `theirs`: a network of PaddleSeg's."""
    _check_input_channels(MODELS, spec, "model", theirs, config.img_channels)
    backbone = spec.get("backbone")
    if not isinstance(backbone, dict):
        return build(MODELS, spec, "model", config.only_paddleseg, num_classes=num_classes)
    checked_factory(MODELS, spec, "model", config.only_paddleseg)
    backbone.pop("pretrained", None)
    kind = backbone.get("type")
    # PaddleSeg's networks ask a backbone for attributes that ours have not.
    of_paddleseg = config.only_paddleseg or (
        theirs and isinstance(kind, str) and BACKBONES.is_in_paddleseg(kind)
    )
    _check_input_channels(BACKBONES, backbone, "model.backbone", of_paddleseg, config.img_channels)
    built = build(BACKBONES, backbone, "model.backbone", of_paddleseg)
    _check_operators(built, f"model.backbone: {kind}")
    spec["backbone"] = built
    try:
        return build(MODELS, spec, "model", theirs, num_classes=num_classes)
    except UsageError as error:
        raise UsageError(f"{error}{_paddlesegs_network(config, backbone['type'])}") from error


@contextmanager
def _paddlesegs_building() -> Iterator[None]:
    """A context in which PaddleSeg's networks can be built, also twice and without a file.

    Some of its backbones name their parameters, which Paddle takes once per process; its vision
    transformers look for the file of `pretrained` also where none is given.
    """
    import paddle

    backbones: list[Any] = [BACKBONES.find(f"{PADDLESEG_PREFIX}{n}") for n in LOADING_BACKBONES]
    theirs = [backbone.init_weight for backbone in backbones]
    try:
        for backbone in backbones:
            backbone.init_weight = lambda self: None
        with paddle.utils.unique_name.guard():
            yield
    finally:
        for backbone, init_weight in zip(backbones, theirs, strict=True):
            backbone.init_weight = init_weight


def _name_apart(model: "nn.Layer") -> None:
    """Give parameters names that no network of this process has: optimizers tell them by these."""
    from paddle.utils import unique_name

    for parameter in model.parameters():
        parameter.name = unique_name.generate(parameter.name)


def replace_gpu_norms(model: "nn.Layer") -> None:
    """Replaces every `nn.SyncBatchNorm` inside `model`, but on GPUs of several processes.

    Paddle has no kernel for it on a CPU, where a graph with it could not be run either. Some of
    PaddleSeg's networks have it whatever the device is. The parameters stay the same.
    """
    import paddle
    from paddle import nn

    if paddle.get_device() != "cpu" and paddle.distributed.get_world_size() > 1:
        return
    for parent in model.sublayers(include_self=True):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.SyncBatchNorm:
                plain = nn.BatchNorm2D(norm._num_features, norm._momentum, norm._epsilon)
                for tensor in ("weight", "bias", "_mean", "_variance"):
                    setattr(plain, tensor, getattr(norm, tensor))
                parent.add_sublayer(name, plain)


def _check_operators(backbone: "nn.Layer", where: str) -> None:
    """Refuse a backbone of PaddleSeg's whose compiled operator is absent: it would end the process.

    Its `exit()` has status 0, as if all were done.
    """
    kinds = {type(layer).__name__ for layer in backbone.sublayers()}
    if "MSDeformAttn" in kinds and importlib.util.find_spec("ms_deform_attn") is None:
        raise UsageError(
            f"{where} needs the operator ms_deform_attn, which is not installed: build it from "
            "https://paddleseg.bj.bcebos.com/dygraph/customized_ops/ms_deform_attn.zip"
        )


def _paddlesegs_network(config: Config, backbone: str) -> str:
    """The remedy where a network of ours refuses a backbone that only PaddleSeg has."""
    network = config.model["type"]
    theirs = means_paddlesegs(MODELS, config.model, config.only_paddleseg)
    if theirs or BACKBONES.is_ours(backbone) or not MODELS.is_in_paddleseg(network):
        return ""
    return f"; PaddleSeg's network takes its {backbone}: type: {PADDLESEG_PREFIX}{network}"


def _check_input_channels(
    registry: Registry, spec: Mapping[str, Any], where: str, only_paddleseg: bool, channels: int
) -> None:
    """Refuse a network of PaddleSeg's for other images than the data sets have."""
    for key in ("in_channels", "in_chans"):
        if spec.get(key, 3) == channels or not isinstance(spec.get("type"), str):
            continue
        factory = registry.find(spec["type"], only_paddleseg)
        declared = inspect.signature(factory).parameters.get(key)
        given = key in spec and declared is None
        if given or (declared is not None and declared.default == 3):  # else of features
            raise UsageError(
                f"{where}: {key}: {channels} expected, got {shown(spec.get(key, 3))}: images are "
                f"read with {channels} channels; for a network of grey images set {key}: 1 and "
                "img_channels: 1 in both data sets, else leave the two out (a grey image is read "
                "as three equal channels)"
            )


def load_pretrained(config: Config, model: "nn.Layer") -> None:
    """Loads the weights that a new run begins from, see `starting_weights.files_to_start_from`.

    Tensors that do not fit (heads of another class count) keep their fresh weights and are listed.
    Of a whole network's file a backbone takes the tensors `backbone.*`, which must all fit.

    Raises:
        UsageError: a URL (nothing is fetched here), a missing or foreign file.
    """
    for key, source in files_to_start_from(config).items():
        target: Any = model
        if key == BACKBONE_KEY:
            target = getattr(model, BACKBONE, None)
            if target is None:
                raise UsageError(
                    f"{type(model).__name__} has no 'backbone' to load 'pretrained' into"
                )
        _load_fitting(target, source, key)


def _load_fitting(model: "nn.Layer", source: Any, key: str) -> None:
    if not isinstance(source, str):
        raise UsageError(f"{key}: the name of a .pdparams file is expected, got {source!r}")
    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        name = parts.path.rpartition("/")[2]
        raise UsageError(
            f"{key}: weights are not fetched while training: download {source} by hand and set "
            f"--opts {key}={name}, or train from scratch with --opts {key}=null"
        )
    arrays = read_arrays(require_file(source, key))
    read_manifest(source)
    start = f"{BACKBONE}."
    inner = {n.removeprefix(start): x for n, x in arrays.items() if n.startswith(start)}
    is_whole = key == BACKBONE_KEY and bool(inner) and not arrays.keys() & model.state_dict().keys()
    if is_whole:
        log(f"{key}: {source}: a whole network; of {len(arrays)} tensors the {len(inner)} {start}*")
        arrays = inner
    arrays = _resized_embeddings(model, arrays)
    report = load_arrays_into(model, arrays, f"{key}: {source}", strict=is_whole)
    log(f"{key}: {source}: {report.describe()}")


def _resized_embeddings(model: "nn.Layer", arrays: dict[str, Any]) -> dict[str, Any]:
    """The arrays, position embeddings of PaddleSeg's transformers as large as the network's.

    Source: PaddleSeg 2.8 `init_weight` of `VisionTransformer` and `CAE`: bicubic, the class token
    as it is. It assumes images of a square number of patches.
    """
    import paddle

    for prefix, layer in model.named_sublayers(include_self=True):
        name = f"{prefix}.{POSITIONS}" if prefix else POSITIONS
        found, own = arrays.get(name), getattr(layer, POSITIONS, None)
        if found is None or own is None or not hasattr(layer, "resize_pos_embed"):
            continue
        if found.dtype.kind != "f" or found.ndim != 3 or found.shape[1] < 2:
            continue
        side = math.isqrt(found.shape[1] - 1)
        if list(found.shape) == list(own.shape) or side**2 + 1 != found.shape[1]:
            continue
        grid = layer.pos_h, layer.pos_w
        embedding = paddle.to_tensor(found.astype("float32"))
        with paddle.no_grad():
            resized = layer.resize_pos_embed(embedding, (side, side), grid).numpy()
        log(f"{name}: resized from {side}x{side} to {grid[0]}x{grid[1]} patches")
        arrays = arrays | {name: resized}
    return arrays
