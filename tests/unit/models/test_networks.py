"""What every network must do: any size, gradients everywhere, weights that save and load."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from paddleseg_ext.checkpoints.store import load_into, save_weights
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.models.backbones.efficientnet import EfficientNetB1
from paddleseg_ext.models.backbones.resnet import ResNet18, ResNet50, ResNet101, ResNet101_v1c
from paddleseg_ext.models.backbones.resnet_v1c import ResNet18_v1c
from paddleseg_ext.models.backbones.resnet_vd import ResNet18_vd
from paddleseg_ext.models.backbones.stdcnet import STDCClassifier, STDCNet813, STDCNet1446
from paddleseg_ext.models.backbones.xception import Xception39
from paddleseg_ext.models.bisenetv1 import BiSeNetV1
from paddleseg_ext.models.bisenetv1_variants import VARIANTS as V1_VARIANTS
from paddleseg_ext.models.bisenetv1_xception import BiSeNetV1Xception
from paddleseg_ext.models.bisenetv2 import BiSeNetV2
from paddleseg_ext.models.bisenetv2_variants import VARIANTS as V2_VARIANTS
from paddleseg_ext.models.dabnet import VARIANTS as DABNET_VARIANTS
from paddleseg_ext.models.dabnet import DABNet, ExchangeModule, pixel_unshuffle
from paddleseg_ext.models.layers import resize
from paddleseg_ext.models.stdcseg import STDCSeg
from paddleseg_ext.registry import BACKBONES, MODELS

CLASSES = 5


def backbone_for(variant: str) -> nn.Layer:
    makers = {
        "paddleseg": ResNet18_vd,
        "author_x39": Xception39,
        "author_r101": ResNet101_v1c,
        "mmseg_wide": ResNet50,
    }
    if variant in makers:
        return makers[variant]()
    return ResNet18(V1_VARIANTS[variant].activation)


NETWORKS: dict[str, Callable[..., nn.Layer]] = {
    **{
        f"v1-{variant}": lambda n=CLASSES, variant=variant: BiSeNetV1(
            n, backbone_for(variant), variant
        )
        for variant in V1_VARIANTS
    },
    "v1-author_speed-x39": lambda n=CLASSES: BiSeNetV1(n, Xception39(), "author_speed"),
    "v1-mmseg_wide-r101": lambda n=CLASSES: BiSeNetV1(n, ResNet101(), "mmseg_wide"),
    "v1-xception": lambda n=CLASSES: BiSeNetV1Xception(n),
    **{
        f"v2-{variant}": lambda n=CLASSES, variant=variant: BiSeNetV2(n, variant)
        for variant in V2_VARIANTS
    },
    "stdc1": lambda n=CLASSES: STDCSeg(n, STDCNet813()),
    "stdc2": lambda n=CLASSES: STDCSeg(
        n, STDCNet1446(), use_boundary_2=True, use_boundary_4=True, use_boundary_8=False
    ),
    "stdc1-paddleseg": lambda n=CLASSES: STDCSeg(
        n, STDCNet813(pool_counts_padding=False), variant="paddleseg"
    ),
    "stdc1-conv_last": lambda n=CLASSES: STDCSeg(n, STDCNet813(conv_last=True)),
    "stdc1-mmseg": lambda n=CLASSES: STDCSeg(n, STDCNet813(), variant="mmseg"),
    "stdc1-cutnet": lambda n=CLASSES: STDCSeg(n, STDCNet813(), variant="half_tail"),
    "stdc1-delnet": lambda n=CLASSES: STDCSeg(n, STDCNet813(last_stage=False), variant="half_tail"),
    "stdc1-dw": lambda n=CLASSES: STDCSeg(n, STDCNet813(), separable=True),
    **{
        f"dab-p{patch}": lambda n=CLASSES, patch=patch: DABNet(n, ResNet18_v1c(), patch)
        for patch in (1, 2, 4, 8, 16)
    },
    "dab-e": lambda n=CLASSES: DABNet(n, EfficientNetB1()),
    **{
        f"dab-{name}": lambda n=CLASSES, name=name: DABNet(n, ResNet18_v1c(), variant=name)
        for name in DABNET_VARIANTS
        if name != "original"
    },
}
# One of each kind is fast; the rest differ from one of these in a detail, or take long.
FAST = {
    "v1-author",
    "v1-coincheung",
    "v1-coincheung_202009",
    "v1-coincheung_2019_diss",
    "v1-paddleseg",
    "v1-author_x39",
    "v1-xception",
    "v2-coincheung",
    "v2-coincheung_202009",
    "v2-tf2",
    "stdc2",
    "stdc1-conv_last",
    "stdc1-delnet",
    "stdc1-dw",
    "dab-p2",
    "dab-e",
    "dab-channel",
    "dab-pce01",
    "dab-baseline",
}
FAST_OR_SLOW = [
    pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in NETWORKS
]
# A constant added before a norm: the norm subtracts it again while training, so its gradient is
# zero up to rounding, in the published networks too. PaddleSeg has them in its convolutions.
SHIFTED_AWAY = ("semantic.context.bn.bias", ".conv.bias")
SIZES_HW = ((64, 96), (75, 109), (40, 33))


@pytest.fixture(autouse=True)
def seed() -> None:
    paddle.seed(0)


def test_every_registered_network_is_here() -> None:
    networks = (BiSeNetV1, BiSeNetV1Xception, BiSeNetV2, STDCSeg, DABNet, STDCClassifier)
    assert {network.__name__ for network in networks} == set(MODELS.names)
    backbones = (
        EfficientNetB1,
        ResNet18,
        ResNet50,
        ResNet101,
        ResNet101_v1c,
        ResNet18_v1c,
        ResNet18_vd,
        STDCNet813,
        STDCNet1446,
        Xception39,
    )
    assert {backbone.__name__ for backbone in backbones} == set(BACKBONES.names)


@pytest.mark.parametrize("name", FAST_OR_SLOW)
def test_any_size(name: str) -> None:
    model = NETWORKS[name]()
    model.eval()
    for height, width in SIZES_HW:
        images = paddle.randn([1, 3, height, width])
        with paddle.no_grad():
            logits = model(images)
            heads = model.heads(images)
        assert [list(x.shape) for x in logits] == [[1, CLASSES, height, width]]
        # Where the original gives its logits at the image's size, the two are the same numbers.
        if list(heads["logits"].shape) == [1, CLASSES, height, width]:
            np.testing.assert_array_equal(heads["logits"].numpy(), logits[0].numpy())
        for output in heads.values():
            assert bool(paddle.isfinite(output).all())


# Per network: a hash of the names and shapes in the order of the state, and a sum over the values
# that changes with any of them and with their order.
INITIAL_WEIGHTS = json.loads(
    (Path(__file__).parents[2] / "data" / "initial_weights.json").read_text()
)


def fingerprint(model: nn.Layer) -> tuple[str, float]:
    layout, checksum = hashlib.sha256(), 0.0
    for number, (name, tensor) in enumerate(model.state_dict().items(), 1):
        layout.update(f"{name} {list(tensor.shape)}\n".encode())
        values = tensor.numpy().astype(np.float64).ravel()
        checksum += number * float(values @ np.cos(np.arange(values.size)))
    return layout.hexdigest(), checksum


@pytest.mark.parametrize("name", FAST_OR_SLOW)
def test_a_seed_gives_the_initial_weights_it_always_gave(name: str) -> None:
    layout, checksum = fingerprint(NETWORKS[name]())
    assert layout == INITIAL_WEIGHTS[name]["layout"]
    assert checksum == pytest.approx(INITIAL_WEIGHTS[name]["checksum"], rel=1e-5, abs=1e-3)


def test_initial_weights_of_every_network_are_recorded() -> None:
    assert set(INITIAL_WEIGHTS) == set(NETWORKS)


@pytest.mark.parametrize("name", FAST_OR_SLOW)
def test_native_logits_upsampled_are_the_output(name: str) -> None:
    model = NETWORKS[name]()
    model.eval()
    images = paddle.randn([1, 3, 75, 109])
    with paddle.no_grad():
        expected, native = model(images)[0], model(images, upsample=False)[0]
    if hasattr(model, "native_stride"):  # DABNet's native logits are of padded images
        assert name.startswith("dab")
        padded_hw = [side * model.native_stride for side in native.shape[2:]]
        assert padded_hw == list(model._pad(images).shape[2:])
        got = resize(native, padded_hw, model.upsampling)[:, :, :75, :109]
        np.testing.assert_array_equal(got.numpy(), expected.numpy())
    elif model.upsampling == "pixel_shuffle":
        np.testing.assert_array_equal(native[:, :, :75, :109].numpy(), expected.numpy())
    else:
        got = resize(native, (75, 109), model.upsampling)
        np.testing.assert_array_equal(got.numpy(), expected.numpy())
        assert native.shape[3] in (13, 14)


@pytest.mark.parametrize("name", FAST_OR_SLOW)
def test_every_parameter_learns(name: str) -> None:
    model = NETWORKS[name]()
    model.train()
    outputs = model(paddle.randn([2, 3, 64, 64]))
    sum((output**2).mean() for output in outputs).backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.stop_gradient:  # running statistics
            assert parameter_name.endswith(("_mean", "_variance")), parameter_name
            continue
        assert parameter.grad is not None, parameter_name
        if not parameter_name.endswith(SHIFTED_AWAY):
            assert float(parameter.grad.abs().max()) > 0, parameter_name


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_deployed_equals_eager(name: str, tmp_path: Path) -> None:
    """Exported for any size, with oneDNN off and on, at a size that no stride divides."""
    from paddleseg_ext.export.options import ExportOptions
    from paddleseg_ext.export.tracing import GRAPH_NAME, trace
    from paddleseg_ext.images.labels import generic_table
    from paddleseg_ext.inference.bundle import read_bundle, write_deploy_yaml
    from paddleseg_ext.inference.engines.table import open_engine
    from paddleseg_ext.inference.manifest import Manifest
    from paddleseg_ext.inference.runtime import RuntimeSpec

    model = NETWORKS[name]()
    model.eval()
    options = ExportOptions(tmp_path, (-1, 3, -1, -1), "none")
    trace(model, options, tmp_path / GRAPH_NAME)
    manifest = Manifest(name, generic_table(CLASSES))
    write_deploy_yaml(tmp_path, [], list(options.input_shape), "none", manifest)
    bundle = read_bundle(tmp_path)
    for height, width in ((75, 109), (64, 128)):
        images = paddle.randn([2, 3, height, width])
        with paddle.no_grad():
            expected = model(images)[0].numpy()
        for name_of_engine in ("paddle", "paddle_onednn"):
            engine = open_engine(bundle, RuntimeSpec(name_of_engine))
            difference = np.abs(engine.run(images.numpy()) - expected).max()
            assert difference <= 1e-4 * max(1.0, np.abs(expected).max()), (name_of_engine, height)


@pytest.mark.parametrize("name", FAST_OR_SLOW)
def test_save_and_load(name: str, tmp_path: Path) -> None:
    first, second = NETWORKS[name](), NETWORKS[name]()
    path = tmp_path / "model.pdparams"
    save_weights(first, path)
    assert load_into(second, path).complete
    images = paddle.randn([1, 3, 32, 64])
    first.eval()
    second.eval()
    with paddle.no_grad():
        np.testing.assert_array_equal(first(images)[0].numpy(), second(images)[0].numpy())


def parameter_count(model: nn.Layer) -> int:
    return sum(p.size for p in model.parameters() if not p.stop_gradient)


# Trainable values of the originals with 19 classes: the sum over the tensors of their checkpoints,
# without running statistics, second names, and what STDC-Seg builds and never reads.
PUBLISHED_PARAMETERS = {
    "v1-author": 13_494_777,
    "v1-author_speed": 13_194_489,
    "v1-coincheung": 13_425_721,
    "v1-coincheung_202107": 13_392_441,
    "v1-coincheung_202009": 14_092_800,
    "v1-coincheung_202008": 13_392_384,
    "v1-coincheung_2019": 13_392_384,
    "v1-coincheung_2019_diss": 13_300_416,
    "v1-face_parsing": 13_300_416,
    "v2-coincheung": 5_231_487,
    "v2-coincheung_202009": 27_709_152,
    "v2-coincheung_202008": 3_645_935,
    "stdc1": 8_572_896,
    "dab-p2": 17_783_705,
    "dab-p8": 49_855_385,
    "dab-e": 9_002_993,
}
# Neither a figure nor a checkpoint's list of tensors is at hand for these.
NO_PUBLISHED_PARAMETERS = {
    "v1-author_r101",  # names and shapes from its source, tests/unit/checkpoints
    "v1-author_x39",
    "v1-xception",
    "v1-author_speed-x39",
    "v1-mmseg",  # tensor by tensor equal to the original's, shared golden cases
    "v1-mmseg_wide",
    "v1-mmseg_wide-r101",
    "v1-paddleseg",  # tensor by tensor equal to PaddleSeg's classes, tests/parity
    "v2-paddleseg",
    "stdc1-paddleseg",
    "v2-mmseg",
    "v2-tf2",
    "stdc2",  # with other detail heads than the original's; its count is 12_603_360 with 1/8
    "stdc1-conv_last",
    "stdc1-mmseg",
    "stdc1-cutnet",
    "stdc1-delnet",
    "stdc1-dw",
    "dab-p1",
    "dab-p4",
    "dab-p16",
    *(f"dab-{name}" for name in DABNET_VARIANTS if name != "original"),
}


def test_every_network_has_a_published_count_or_none() -> None:
    assert {*PUBLISHED_PARAMETERS, *NO_PUBLISHED_PARAMETERS} == set(NETWORKS)


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_parameters_are_the_originals(name: str) -> None:
    assert parameter_count(NETWORKS[name](19)) == PUBLISHED_PARAMETERS[name]


def test_stdc2_parameters_are_the_originals() -> None:
    assert parameter_count(STDCSeg(19, STDCNet1446())) == 12_603_360


@pytest.mark.parametrize(
    ("make", "published"),
    [
        # torchvision's documentation, less the classifier of 512 (2048) x 1000 + 1000.
        (ResNet18, 11_689_512 - 513_000),
        (ResNet50, 25_557_032 - 2_049_000),
        (ResNet101, 44_549_160 - 2_049_000),
        # timm's table has 7.79 M with the head: 1280 x 320 + 2 x 1280 and 1280 x 1000 + 1000.
        (EfficientNetB1, 7_794_184 - 412_160 - 1_281_000),
    ],
)
def test_backbone_parameters_are_the_published(make: Callable, published: int) -> None:
    assert parameter_count(make()) == published


@pytest.mark.parametrize(
    ("make", "millions"),
    # STDC-Seg, table 3: 8.44 M and 12.47 M.
    [(STDCNet813, 8.44), (STDCNet1446, 12.47)],
)
def test_stdc_parameters_are_the_published(make: Callable, millions: float) -> None:
    model = STDCClassifier(1000, make())
    assert parameter_count(model) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize(("variant", "drops"), [("mmseg", True), ("coincheung", False)])
def test_heads_of_mmsegmentation_drop_channels_before_the_classifier(
    variant: str, drops: bool
) -> None:
    paddle.seed(3)
    v1, v2 = BiSeNetV1(5, ResNet18(), variant), BiSeNetV2(5, variant)
    empty: list[bool] = []  # whether any whole channel of a head is 0
    for head in (v1.head, v1.aux_head8, v2.head, v2.aux_heads[1]):
        head.classifier.register_forward_pre_hook(
            lambda _, inputs: empty.append(bool((inputs[0] == 0).all(axis=[2, 3]).any()))
        )
    for model in (v1, v2):
        model.train()
        model(paddle.randn([2, 3, 128, 128]))
    assert empty == [drops] * 4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BiSeNetV1(CLASSES, ResNet18(), "coincheong"), "did you mean 'coincheung'"),
        (lambda: BiSeNetV2(CLASSES, "tf"), "variant: unknown 'tf' .did you mean 'tf2'"),
        (lambda: STDCSeg(CLASSES, STDCNet813(), variant="orginal"), "did you mean 'original'"),
        (lambda: DABNet(CLASSES, ResNet18_v1c(), spatial="both"), "spatial: unknown 'both'"),
        (lambda: ResNet18("swish"), "activation: unknown 'swish' .known: leaky_relu, relu"),
        (
            lambda: replace(V1_VARIANTS["author"], ffm_gate="two_conv"),
            "ffm_gate: unknown 'two_conv' .did you mean 'two_convs'",
        ),
        (lambda: replace(V2_VARIANTS["tf2"], head="wide"), "head: unknown 'wide'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(make: Callable, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def test_wrong_options_are_told() -> None:
    with pytest.raises(ValueError, match="Use ResNet18"):
        BiSeNetV1(CLASSES, STDCNet813())
    with pytest.raises(ValueError, match="patch_size is one of"):
        DABNet(CLASSES, ResNet18_v1c(), 3)
    with pytest.raises(ValueError, match="ResNet18_v1c or EfficientNetB1"):
        DABNet(CLASSES, ResNet18())
    with pytest.raises(ValueError, match="output_stride is 8, 16 or 32"):
        ResNet18_vd(12)


def test_dabnets_ablations_are_parts_of_the_network() -> None:
    """The modules that each of the original's files builds."""

    def modules(variant: str) -> set[str]:
        names = DABNet(CLASSES, ResNet18_v1c(), variant=variant).state_dict()
        return {".".join(name.split(".")[:3]) for name in names if name.startswith(("exch", "spa"))}

    whole = modules("original")
    in_exchange = {name for name in whole if ".l2l_p" in name or ".l2l_bn" in name}
    assert modules("channel") == modules("spatial") == whole - in_exchange
    assert modules("pce") == {name for name in whole if name.startswith("exchanges")}
    for variant, count in (("image", 0), ("pce0", 1), ("pce01", 2), ("pce02", 3)):
        left_out = tuple(f"exchanges.{i}" for i in range(count, 4))
        assert modules(variant) == {name for name in whole if not name.startswith(left_out)}
    assert modules("fcn") == set()
    same = DABNet(CLASSES, ResNet18_v1c(), exchange=False, spatial="path").state_dict()
    assert set(same) == set(DABNet(CLASSES, ResNet18_v1c(), variant="baseline").state_dict())


def test_the_low_stream_of_an_exchange_module() -> None:
    x = paddle.randn([1, 4, 6, 8])
    patches = pixel_unshuffle(x, 2)
    mean = patches.reshape([1, 4, 4, 3, 4]).mean(axis=2)
    for name, seen in (("channel", patches), ("spatial", mean)):
        module = ExchangeModule(4, 3, 2, name)
        module.eval()
        expected = paddle.nn.functional.relu(module.bnl_0(module.h2l_0(seen)))
        np.testing.assert_allclose(module._low(x), expected, atol=1e-6)
