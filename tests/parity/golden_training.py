"""Golden cases of kind "loss" and "schedule", driven by `meta.json`."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from paddleseg_ext.published.golden import FAILED, PASSED, SKIPPED, CaseResult
from paddleseg_ext.published.golden_data import GoldenCase

from .golden_inputs import load_generator, loss_and_gradient, make_labels, make_pixel_inputs

LOSS_TOLERANCE = 1e-5
SCHEDULE_TOLERANCE = 1e-12


def _min_kept(rule: Any, shape: Sequence[int]) -> int | None:
    """Least number of pixels to keep: a number, or a share of the batch's as "N*H*W//16"."""
    if rule is None or isinstance(rule, int):
        return rule
    share = re.fullmatch(r"N\*H\*W//(\d+)", str(rule).replace(" ", ""))
    if share is None:
        raise ValueError(f"unknown rule for the least number of pixels: {rule}")
    n, _, height, width = shape
    return n * height * width // int(share[1])


def _make_loss(source: Mapping[str, Any], shape: Sequence[int]) -> Callable[..., Any] | None:
    """Our loss for an original's class and arguments, for logits of `shape`; or None."""
    from paddleseg_ext.losses.cross_entropy import CrossEntropyLoss
    from paddleseg_ext.losses.ohem import CoinCheungOhemLoss, OhemCrossEntropyLoss, StdcOhemLoss

    args = source.get("args", {})
    if args.get("use_weight") or args.get("use_sigmoid"):
        raise ValueError(f"{source['cls']}: these arguments have no equal here: {args}")
    least = _min_kept(args.get("min_kept", args.get("n_min")), shape)
    key = (source["repo"], source["cls"])
    if key == ("CoinCheung/BiSeNet", "OhemCELoss"):
        return CoinCheungOhemLoss(args["thresh"])
    if key == ("MichaelFan01/STDC-Seg", "OhemCELoss"):
        return StdcOhemLoss(args["thresh"], least)
    if key == ("ycszen/TorchSeg", "ProbOhemCrossEntropy2d"):
        return OhemCrossEntropyLoss(args["thresh"], least)
    if key == ("isyangshu/DABNet", "CrossEntropyLoss"):
        loss = CrossEntropyLoss(avg_non_ignore=False)
        weight = args.get("loss_weight", 1.0)
        return lambda logits, labels: weight * loss(logits, labels)
    return None


def _relative(got: Any, expected: Any) -> float:
    """Largest difference, relative to the largest expected value."""
    scale = max(float(np.abs(expected).max()), 1e-12)
    return float(np.abs(np.asarray(got) - expected).max()) / scale


def _pixel_loss(sub: Mapping[str, Any], case: GoldenCase, generator: ModuleType) -> float:
    loss = _make_loss(case.meta["source"], sub["logits"]["shape"])
    assert loss is not None  # run_loss asked before
    value, gradient = loss_and_gradient(loss, *make_pixel_inputs(generator, sub))
    expected = case.expected[f"{sub['name']}.loss"]
    if np.isnan(expected):  # the stated deviation: no valid pixel is no loss and no gradient
        return 0.0 if value == 0.0 and not gradient.any() else np.inf
    return max(
        _relative(value, expected), _relative(gradient, case.expected[f"{sub['name']}.grad"])
    )


def _detail_loss(sub: Mapping[str, Any], case: GoldenCase, generator: ModuleType) -> float:
    import paddle

    from paddleseg_ext.losses.detail import DetailAggregateLoss

    labels = make_labels(generator, sub["labels"])
    logits = generator.make_input(sub["logits"]["shape"], sub["logits"]["seed"])
    loss = DetailAggregateLoss(sub["fuse_kernel"])
    bce, dice = loss.parts(paddle.to_tensor(logits), paddle.to_tensor(labels))
    _, gradient = loss_and_gradient(loss, logits, labels)
    target = loss.boundaries(paddle.to_tensor(labels)).numpy().squeeze()
    name = sub["name"]
    if not np.array_equal(target, case.expected[f"{name}.target"].squeeze()):
        return np.inf
    return max(
        _relative(float(bce), case.expected[f"{name}.bce"]),
        _relative(float(dice), case.expected[f"{name}.dice"]),
        _relative(gradient, case.expected[f"{name}.grad"]),
    )


def _judge(case: GoldenCase, differences: Mapping[str, float], tolerance: float) -> CaseResult:
    wrong = [f"{name} differs by {d:.1e}" for name, d in differences.items() if not d <= tolerance]
    return CaseResult(
        case.name,
        FAILED if wrong else PASSED,
        max(differences.values()),
        "; ".join(wrong) or f"relative, {len(differences)} sub-cases",
    )


def run_loss(case: GoldenCase) -> CaseResult:
    """Compare values and gradients of one loss."""
    source = case.meta["source"]
    is_detail = source["cls"] == "DetailAggregateLoss"
    if not is_detail and _make_loss(source, (1, 2, 8, 8)) is None:
        return CaseResult(case.name, SKIPPED, None, f"no loss for {source['cls']}")
    difference = _detail_loss if is_detail else _pixel_loss
    generator = load_generator(case.directory.parent)
    differences = {s["name"]: difference(s, case, generator) for s in case.meta["subcases"]}
    return _judge(case, differences, LOSS_TOLERANCE)


def _schedule_section(meta: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """`lr_scheduler:` and the number of iterations for an original's arguments."""
    section = {
        "type": "PolynomialDecay",
        "learning_rate": meta["base_lr"],
        "power": meta["power"],
        "end_lr": meta.get("min_lr", 0.0),
    }
    warmup_iters = meta.get("warmup_iter") or meta.get("warmup_iters")
    if warmup_iters:
        start = meta.get("warmup_start_lr") or meta["warmup_ratio"] * meta["base_lr"]
        form = meta.get("warmup") or "exp"
        if "by_epoch" in meta:  # mmcv's: the poly value itself is scaled
            if form != "linear" or meta["by_epoch"]:
                raise ValueError(f"{meta['name']}: only mmcv's linear warm-up by iterations")
            form = "scaled"
        section |= {"warmup_iters": warmup_iters, "warmup_start_lr": start, "warmup": form}
    return section, meta.get("max_iter") or meta.get("max_iters") or meta["total_iters"]


def run_schedule(case: GoldenCase) -> CaseResult:
    """Compare the learning rates of every schedule of the case."""
    from paddleseg_ext.training.schedules import build_schedule

    differences = {}
    for meta in case.meta["schedules"]:
        schedule = build_schedule(*_schedule_section(meta))
        expected = case.expected[f"{meta['name']}.lr"]
        got = np.array([schedule(int(i)) for i in case.expected[f"{meta['name']}.iter"]])
        differences[meta["name"]] = float((np.abs(got - expected) / np.abs(expected)).max())
    return _judge(case, differences, SCHEDULE_TOLERANCE)
