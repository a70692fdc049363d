"""Losses by values that can be worked out by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import Config
from paddleseg_ext.losses.cross_entropy import CrossEntropyLoss, DiceLoss
from paddleseg_ext.losses.detail import DetailAggregateLoss, MMSegDetailLoss
from paddleseg_ext.losses.multi_head import build_loss, class_masks
from paddleseg_ext.losses.ohem import CoinCheungOhemLoss, OhemCrossEntropyLoss, StdcOhemLoss
from paddleseg_ext.models.build import build_model

EVERY_LOSS = [
    CrossEntropyLoss(),
    CrossEntropyLoss(avg_non_ignore=False),
    DiceLoss(),
    OhemCrossEntropyLoss(),
    CoinCheungOhemLoss(),
    StdcOhemLoss(),
    StdcOhemLoss(count_ignored=False),
]


def logits_of(probabilities: list[float]) -> paddle.Tensor:
    """Two classes; class 1, the true one, has these probabilities at the pixels of one row."""
    values = [math.log(p / (1.0 - p)) for p in probabilities]
    pair = np.stack([np.zeros(len(values)), values])  # (2, W)
    return paddle.to_tensor(pair[None, :, None, :], "float32", stop_gradient=False)


def loss_at(loss, probabilities: list[float], labels: list[int]) -> float:
    return float(loss(logits_of(probabilities), paddle.to_tensor([[labels]], "int64")))


def mean_loss(probabilities: list[float]) -> float:
    return sum(-math.log(p) for p in probabilities) / len(probabilities)


def test_cross_entropy_weights_and_denominators() -> None:
    assert loss_at(CrossEntropyLoss(), [0.5, 0.9], [1, 255]) == pytest.approx(mean_loss([0.5]))
    assert loss_at(CrossEntropyLoss(avg_non_ignore=False), [0.5, 0.9], [1, 255]) == pytest.approx(
        mean_loss([0.5]) / 2
    )
    weighted = CrossEntropyLoss(weight=[1.0, 3.0])
    assert loss_at(weighted, [0.5], [1]) == pytest.approx(3 * mean_loss([0.5]))
    with pytest.raises(UsageError, match="'weight' has 3 numbers for 2 classes"):
        loss_at(CrossEntropyLoss(weight=[1.0, 3.0, 1.0]), [0.5], [1])


def test_each_ohem_keeps_what_its_original_keeps() -> None:
    probabilities, labels = [0.1, 0.6, 0.8, 0.9, 0.95, 0.5], [1, 1, 1, 1, 1, 255]
    # up to 0.7, or the 4 smallest
    assert loss_at(OhemCrossEntropyLoss(min_kept=1), probabilities, labels) == pytest.approx(
        mean_loss([0.1, 0.6])
    )
    assert loss_at(OhemCrossEntropyLoss(min_kept=4), probabilities, labels) == pytest.approx(
        mean_loss([0.1, 0.6, 0.8, 0.9])
    )
    # fewer labelled pixels than asked for: STDC's zeros of ignored pixels lower the mean
    total = sum(-math.log(p) for p in probabilities[:5])
    assert loss_at(StdcOhemLoss(min_kept=6), probabilities, labels) == pytest.approx(total / 6)
    tensorflow = StdcOhemLoss(min_kept=6, count_ignored=False)
    assert loss_at(tensorflow, probabilities, labels) == pytest.approx(total / 5)
    assert loss_at(StdcOhemLoss(min_kept=1), probabilities, labels) == pytest.approx(
        mean_loss([0.1, 0.6])
    )
    assert loss_at(CoinCheungOhemLoss(), probabilities, labels) == pytest.approx(
        mean_loss([0.1, 0.6])
    )


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (OhemCrossEntropyLoss, {"min_kept": 3}),
        (CoinCheungOhemLoss, {}),
        (CoinCheungOhemLoss, {"thresh": 1e-9}),  # none is hard: the largest sixteenth
        (StdcOhemLoss, {"min_kept": 1}),
        (StdcOhemLoss, {"min_kept": 30}),
        (StdcOhemLoss, {"min_kept": 3, "count_ignored": False}),
    ],
)
def test_class_weights_multiply_the_losses_that_ohem_selects(kind: Any, kept: dict) -> None:
    """The same pixels as without weights, whose factors multiply loss and gradient."""
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(2, 3, 4, 6)).astype(np.float32)
    labels = generator.choice([0, 1, 2, 255], (2, 4, 6))

    def run(**arguments: Any) -> tuple[float, np.ndarray]:
        given = paddle.to_tensor(logits, stop_gradient=False)
        loss = kind(**kept, **arguments)(given, paddle.to_tensor(labels, "int64"))
        loss.backward()
        return float(loss), given.grad.numpy()

    plain, gradient = run()
    assert run(weight=[1, 1, 1])[0] == pytest.approx(plain)
    factors = np.array([0.5, 2.0, 3.0, 0.0])[np.where(labels == 255, 3, labels)][:, None]
    value, weighted = run(weight=[0.5, 2.0, 3.0])
    np.testing.assert_allclose(weighted, gradient * factors, rtol=1e-5, atol=1e-9)
    assert value != pytest.approx(plain) and np.abs(weighted).max() > 0
    with pytest.raises(UsageError, match="'weight' has 2 numbers for 3 classes"):
        run(weight=[1, 2])


def test_dice_of_a_perfect_prediction_is_zero() -> None:
    perfect = loss_at(DiceLoss(), [1 - 1e-7] * 4, [1, 1, 1, 255])
    assert perfect == pytest.approx(0.0, abs=1e-4)
    assert loss_at(DiceLoss(), [1e-7 + 1e-7] * 4, [1, 1, 1, 255]) > 0.5


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=lambda loss: type(loss).__name__)
def test_nothing_labelled_is_zero_with_zero_gradients(loss) -> None:
    logits = logits_of([0.2, 0.7, 0.5])
    value = loss(logits, paddle.to_tensor([[[255, 255, 255]]], "int64"))
    value.backward()
    assert float(value) == pytest.approx(0.0, abs=1e-6)
    assert not logits.grad.numpy().any()


def test_detail_targets_and_masking() -> None:
    labels = np.zeros((1, 16, 16), np.int64)
    labels[:, :, 8:] = 3
    target = DetailAggregateLoss().boundaries(paddle.to_tensor(labels)).numpy()[0, 0]
    # the larger side of the step at strides 1 and 2, and the padded border of the right side
    assert target[5].tolist() == [0] * 8 + [1, 1] + [0] * 5 + [1]
    labels[:, :, 8:] = 255
    logits = paddle.full([1, 1, 16, 16], 2.0)
    plain = DetailAggregateLoss().parts(logits, paddle.to_tensor(labels))[0]
    masked = DetailAggregateLoss(mask_ignored=True).parts(logits, paddle.to_tensor(labels))[0]
    assert float(masked) > float(plain)  # with the mask there is no boundary left to predict


def section(**loss: object) -> Config:
    return Config("a.yml", {"loss": loss})


def test_one_type_serves_every_head() -> None:
    loss = build_loss(section(types=[{"type": "CrossEntropyLoss"}], coef=[1, 0.5]), 255)
    heads = [logits_of([0.5]), logits_of([0.25])]
    total, each = loss(heads, paddle.to_tensor([[[1]]], "int64"))
    assert [float(v) for v in each] == pytest.approx([mean_loss([0.5]), mean_loss([0.25])])
    assert float(total) == pytest.approx(mean_loss([0.5]) + 0.5 * mean_loss([0.25]))
    with pytest.raises(UsageError, match=r"3 heads in training, loss\.coef has 2"):
        loss([*heads, heads[0]], paddle.to_tensor([[[1]]], "int64"))


def test_a_mixed_loss_of_paddleseg_adds_up_its_parts() -> None:
    parts = [{"type": "CrossEntropyLoss"}, {"type": "CoinCheungOhemLoss", "thresh": 0.6}]
    mixed = {"type": "MixedLoss", "losses": parts, "coef": [0.5, 2]}
    loss = build_loss(section(types=[mixed], coef=[1]), 255)
    total, _ = loss([logits_of([0.5, 0.9, 0.3])], paddle.to_tensor([[[1, 1, 255]]], "int64"))
    expected = 0.5 * mean_loss([0.5, 0.9]) + 2 * mean_loss([0.5])
    assert float(total) == pytest.approx(expected)
    parts[1]["thresh"] = 2
    with pytest.raises(UsageError, match=r"loss\.types\[0\]\.losses\[1\]: CoinCheung"):
        build_loss(section(types=[mixed], coef=[1]), 255)


def mixed(*parts: dict, coef: list[float]) -> dict:
    return {"type": "MixedLoss", "losses": list(parts), "coef": coef}


CE, DICE = {"type": "CrossEntropyLoss"}, {"type": "DiceLoss"}


@pytest.mark.parametrize(
    "nested",
    [
        mixed(mixed(CE, DICE, coef=[1, 3]), CE, coef=[0.5, 2]),
        mixed(mixed(mixed(CE, coef=[1]), mixed(DICE, CE, coef=[3, 5]), coef=[1, 0.5]), coef=[1]),
    ],
)
def test_a_mixture_of_mixtures_is_the_sum_of_all_parts(nested: dict) -> None:
    flat = {0: [2.5, 1.5], 1: [3.5, 1.5]}[int(nested["coef"] == [1])]
    heads, labels = [logits_of([0.5, 0.9, 0.3])], paddle.to_tensor([[[1, 1, 0]]], "int64")
    expected = build_loss(section(types=[mixed(CE, DICE, coef=flat)], coef=[0.1]), 255)
    got = build_loss(section(types=[nested], coef=[0.1]), 255)
    assert float(got(heads, labels)[0]) == pytest.approx(float(expected(heads, labels)[0]))


def paddlesegs_total(heads: list, labels: Any, edges: Any, losses: list, coef: list) -> float:
    from paddleseg.core.train import loss_computation

    parts = loss_computation(heads, labels, edges, {"types": losses, "coef": coef})
    return float(sum(parts))


@pytest.fixture
def two_heads() -> tuple[list, Any, Any]:
    rng = np.random.default_rng(0)
    heads = [
        paddle.to_tensor(rng.normal(size=(2, 3, 8, 8)).astype("float32"), stop_gradient=False)
        for _ in range(2)
    ]
    labels = paddle.to_tensor(rng.integers(0, 3, (2, 8, 8)))
    return heads, labels, paddle.to_tensor(rng.integers(0, 2, (2, 1, 8, 8)))


def test_losses_get_what_paddleseg_gives_them(two_heads: tuple[list, Any, Any]) -> None:
    """The edge map for `edge_label`, inside a mixture, too; KLLoss both heads."""
    heads, labels, edges = two_heads
    heads.append(paddle.mean(heads[0], axis=1, keepdim=True))  # the edge head
    types = [CE, {"type": "KLLoss"}, {"type": "BCELoss", "edge_label": True}]
    loss = build_loss(section(types=types, coef=[1, 2, 20]), 255)
    total, each = loss(heads, labels, edges)
    expected = paddlesegs_total(heads, labels, edges, list(loss.losses), [1, 2, 20])
    assert float(total) == pytest.approx(expected, rel=1e-6)
    inside = mixed(types[2], {"type": "BCELoss", "edge_label": True}, coef=[1, 3])
    loss = build_loss(section(types=[inside], coef=[1]), 255)
    assert float(loss(heads[2:], labels, edges)[0]) == pytest.approx(4 * float(each[2]), rel=1e-6)


def test_maskformer_gets_the_masks_of_paddlesegs_transform() -> None:
    """GenerateInstanceTargets of PaddleSeg, without the classes that it adds to each image."""
    from paddleseg.transforms import GenerateInstanceTargets

    labels = np.random.default_rng(0).integers(0, 3, (2, 8, 8))
    labels[0, :, :4], labels[1] = 255, np.where(labels[1] == 1, 2, labels[1])
    masks = class_masks(paddle.to_tensor(labels), 255)
    for number, label in enumerate(labels):
        given = {"img": np.zeros((8, 8, 3)), "label": label}
        theirs = GenerateInstanceTargets(3)(given)["instances"]
        own = theirs["gt_classes"] != 255
        for name, ours in masks.items():
            np.testing.assert_array_equal(ours[number, ...].numpy(), theirs[name][own])
    assert masks["gt_masks"].shape[0] == 2 and masks["gt_classes"][1, ...].tolist() == [0, 2]


def test_maskformers_loss_of_images_with_few_classes_and_with_none() -> None:
    paddle.seed(0)
    logits = {"pred_logits": paddle.randn([2, 5, 4]), "pred_masks": paddle.randn([2, 5, 4, 4])}
    spec = {"type": "MaskFormerLoss", "num_classes": 3}
    loss = build_loss(section(types=[spec], coef=[2]), 255, 3)
    for first, second in ((0, 1), (0, 255), (255, 255)):
        labels = paddle.full([2, 8, 8], first, "int64")
        labels[1] = second
        total, each = loss([logits], labels)
        assert np.isfinite(total.item()) and total.item() == pytest.approx(2 * each[0].item())


def test_losses_that_lack_something_are_refused(two_heads: tuple[list, Any, Any]) -> None:
    heads, labels, _ = two_heads
    edge = build_loss(section(types=[{"type": "BCELoss", "edge_label": True}], coef=[1]), 255)
    with pytest.raises(UsageError, match=r"BCELoss with 'edge_label' needs .*'edge: True'"):
        edge(heads[:1], labels)
    with pytest.raises(UsageError, match="KLLoss compares the first two heads"):
        build_loss(section(types=[{"type": "KLLoss"}], coef=[1]), 255)(heads[:1], labels)


BAD_WEIGHTS = ["dynamic", 5, True, [], [1, "a", 1], [1, None, 1], [0, 0, 0], [1, -1, 1]]
BAD_WEIGHTS += [[1, float("nan"), 1], [1, float("inf"), 1], [1, True, 1], [1, 1]]


@pytest.mark.parametrize("weight", BAD_WEIGHTS, ids=str)
@pytest.mark.parametrize(
    "kind", ["CrossEntropyLoss", "StdcOhemLoss", "paddleseg.CrossEntropyLoss", "paddleseg.DiceLoss"]
)
def test_class_weights_that_mean_nothing_are_refused(kind: str, weight: object) -> None:
    spec = {"type": kind, "weight": weight}
    for types, where in (([spec], ""), ([mixed(CE, spec, coef=[1, 1])], r"\.losses\[1\]")):
        message = rf"^loss\.types\[0\]{where}: {kind}: 'weight'(?!.*dtype)"
        with pytest.raises(UsageError, match=message):
            build_loss(section(types=types, coef=[1]), 255, num_classes=3)


def test_class_weights_that_are_meant() -> None:
    for weight in (None, [1, 0, 2.5]):
        build_loss(section(types=[{**CE, "weight": weight}], coef=[1]), 255, num_classes=3)
    build_loss(section(types=[{"type": "BCELoss", "weight": "dynamic"}], coef=[1]), 255, 3)
    with pytest.raises(UsageError, match="weight: numbers of at least 0"):
        CrossEntropyLoss(weight=[1.0, -1.0])


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ({"types": [], "coef": [1]}, "'types' must be a list"),
        (
            {"types": [{"type": "CrossEntropyLoss"}], "coef": 1},
            "'coef' is a list of one number per head",
        ),
        ({"types": [{"type": "CrossEntropyLoss"}] * 2, "coef": [1, 1, 1]}, "2 types but 3"),
        ({"types": [{"type": "OhemCrossEntropyLoss", "thresh": 2}], "coef": [1]}, "thresh must"),
        ({"types": [{"type": "OhemCrossEntropyLoss", "min_kept": 1.5}], "coef": [1]}, "whole"),
        ({"types": [{"type": "StdcOhemLoss", "min_kept": True}], "coef": [1]}, "whole number"),
        ({"types": [{"type": "DiceLoss", "smooth": 0}], "coef": [1]}, "smooth must be above 0"),
        ({"type": "CrossEntropyLoss"}, "'types' must be a list"),
        ({"types": [CE], "coef": [1, float("nan")]}, "'coef': numbers of at least 0"),
        ({"types": [CE], "coef": [0, 0]}, "not all of them 0"),
        ({"types": [CE], "coef": [1, -0.4]}, "at least 0"),
        ({"types": [CE], "coef": [True]}, "one number per head"),
        ({"types": [mixed(CE, coef=[-1])], "coef": [1]}, r"types\[0\]: 'coef': numbers"),
    ],
)
def test_wrong_sections_are_one_clear_line(loss: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_loss(section(**loss), 255)


def test_an_ignored_value_that_no_label_holds_is_refused() -> None:
    def of(value: int) -> dict:
        return {"types": [{"type": "CrossEntropyLoss", "ignore_index": value}], "coef": [1]}

    for value in (255, 0):
        build_loss(section(**of(value)), 255, num_classes=5)
    with pytest.raises(UsageError, match=r"loss\.types\[0\]: ignore_index is 11, but .* 255"):
        build_loss(section(**of(11)), 255, num_classes=5)


def test_a_detail_map_of_two_channels_is_refused() -> None:
    """Those of mmsegmentation's STDC would be broadcast against one boundary map."""
    labels = paddle.zeros([1, 8, 8], "int64")
    with pytest.raises(UsageError, match=r"1 channel is expected, got 2.*MMSegDetailLoss"):
        DetailAggregateLoss()(paddle.zeros([1, 2, 8, 8]), labels)
    with pytest.raises(UsageError, match="2 channel is expected, got 1"):
        MMSegDetailLoss()(paddle.zeros([1, 1, 8, 8]), labels)


def test_the_detail_loss_of_mmsegmentation() -> None:
    rng = np.random.default_rng(0)
    labels = paddle.to_tensor(rng.integers(0, 3, (2, 16, 24)).repeat(2, 1)[:, :16])
    logits = rng.normal(size=(2, 2, 16, 24)).astype(np.float32)
    edges = MMSegDetailLoss().boundaries(labels).numpy()[:, 0]
    target = np.stack([1 - edges, edges], axis=1)
    sure = 1 / (1 + np.exp(-logits.astype(np.float64)))
    entropy = -(target * np.log(sure) + (1 - target) * np.log(1 - sure)).mean()
    overlap = (sure * target).sum((1, 2, 3))
    squares = (sure**2).sum((1, 2, 3)) + 1e-3 + target.sum((1, 2, 3)) + 1e-3
    parts = MMSegDetailLoss().parts(paddle.to_tensor(logits), labels)
    np.testing.assert_allclose(float(parts[0]), entropy, rtol=1e-6)
    np.testing.assert_allclose(float(parts[1]), (1 - 2 * overlap / squares).mean(), rtol=1e-6)


def test_mmsegmentations_stdc_trains() -> None:
    model = {"type": "STDCSeg", "backbone": {"type": "STDCNet813"}, "variant": "mmseg"}
    types = [{"type": "OhemCrossEntropyLoss"}] * 3 + [{"type": "MMSegDetailLoss"}]
    config = Config(Path("a.yml"), {"model": model, "loss": {"types": types, "coef": [1] * 4}})
    network = build_model(config, 3)
    labels = paddle.randint(0, 3, [2, 64, 64])
    heads = network(paddle.randn([2, 3, 64, 64]))
    total, _ = build_loss(config, 255)(heads, labels)
    total.backward()
    assert all(p.grad is not None for p in network.parameters() if not p.stop_gradient)


@pytest.mark.parametrize(("network", "house"), [("FCN", "paddleseg"), ("DABNet", "paddleseg_ext")])
def test_losses_are_of_their_networks_house(network: str, house: str) -> None:
    raw = {
        "model": {"type": network},
        "loss": {"types": [{"type": "CrossEntropyLoss"}, {"type": "DiceLoss"}], "coef": [1, 1]},
    }
    loss = build_loss(Config(Path("a.yml"), raw), 255)
    assert {type(part).__module__.partition(".")[0] for part in loss.losses} == {house}


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "DiceLoss", "weight": [1.0, 2.0]},
        {"type": "CrossEntropyLoss", "top_k_percent_pixels": 0.2},
    ],
    ids=lambda spec: spec["type"],
)
def test_arguments_that_only_paddleseg_has_mean_its_loss(spec: dict[str, Any]) -> None:
    loss = build_loss(section(types=[spec], coef=[1]), 255)
    assert type(loss.losses[0]).__module__.startswith("paddleseg.")
    labels = paddle.randint(0, 2, [1, 8, 8])
    assert float(loss([paddle.randn([1, 2, 8, 8])], labels)[0]) > 0
    with pytest.raises(UsageError, match=r"takes no '[a-z_]+'; PaddleSeg's does: type: p"):
        build_loss(section(types=[{**spec, "weigths": [1.0]}], coef=[1]), 255)
