"""What a process among others must find: started by `test_distributed.py`, several at once."""

import numpy as np
import paddle
import paddle.distributed as dist
from paddle import nn

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.distributed.world import (
    World,
    average_of_all,
    joined_world,
    parallelize,
    require_same,
    share_statistics,
)
from paddleseg_ext.losses.cross_entropy import CrossEntropyLoss

# Samples of each process: the statistics must not depend on how a batch is split.
SHARES = {2: [3, 1], 4: [3, 1, 2, 2]}
# Pixels of 36 that each process is to ignore.
IGNORED = {2: [0, 30], 4: [0, 36, 12, 30]}
CHANNELS = 3


def share_bounds(world: World) -> slice:
    shares = SHARES[world.size]
    start = sum(shares[: world.rank])
    return slice(start, start + shares[world.rank])


def batch_norm_on(images: np.ndarray, world: World) -> list[np.ndarray]:
    """Output, running statistics and gradients of x^2-weighted sums, after two steps."""
    layer = nn.BatchNorm2D(CHANNELS)
    layer.weight.set_value(paddle.to_tensor([0.5, 1.0, -2.0]))
    layer.bias.set_value(paddle.to_tensor([0.1, 0.0, 3.0]))
    model = nn.Sequential(layer)
    parallel_model = parallelize(model, world, "cpu", sync_bn=True)
    assert model[0].weight is layer.weight, "an optimizer would hold another parameter"
    assert list(model.state_dict()) == ["0.weight", "0.bias", "0._mean", "0._variance"]
    target = np.linspace(-1, 1, images.size).reshape(images.shape).astype(images.dtype)
    rows = share_bounds(world) if world.size > 1 else slice(None)
    for step in range(2):
        x = paddle.to_tensor(images[rows] * (step + 1), stop_gradient=False)
        y = parallel_model(x)
        (y * paddle.to_tensor(target[rows])).square().sum().backward()
    model.eval()
    arrays = [y, x.grad, layer.weight.grad * world.size, layer.bias.grad * world.size]
    return [a.numpy() for a in [*arrays, layer._mean, layer._variance, model(x)]]


def check_batch_norm(world: World) -> None:
    rng = np.random.default_rng(0)
    shape = (sum(SHARES[world.size]), CHANNELS, 5, 4)
    # A mean far from zero: sums of squares would lose every digit of the variance.
    offsets = np.array([0.0, 10.0, 100.0]).reshape(1, -1, 1, 1)
    images = (rng.normal(size=shape) + offsets).astype(np.float32)
    rows = share_bounds(world)
    names = ("output", "x.grad", "weight.grad", "bias.grad", "mean", "variance", "evaluation")
    alone, together = batch_norm_on(images, World()), batch_norm_on(images, world)
    for name, whole, part in zip(names, alone, together, strict=True):
        expected = whole[rows] if whole.ndim == 4 else whole
        scale = np.abs(whole).max()
        np.testing.assert_allclose(part / scale, expected / scale, rtol=0, atol=1e-5, err_msg=name)


def check_cross_entropy(world: World) -> None:
    """The processes hold different numbers of labelled pixels; of four, one none."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(world.size, 4, 6, 6)).astype(np.float32)
    labels = rng.integers(0, 4, (world.size, 6, 6))
    for number, ignored in enumerate(IGNORED[world.size]):
        labels[number].flat[:ignored] = 255
    values = []
    for rows in (slice(None), slice(world.rank, world.rank + 1)):
        x = paddle.to_tensor(logits[rows], stop_gradient=False)
        label = paddle.to_tensor(labels[rows])
        if rows == slice(None):  # the loss of one process, written out
            valid = (label != 255).astype("float32")
            each = nn.functional.cross_entropy(x, label, axis=1, ignore_index=255, reduction="none")
            loss = each.sum() / valid.sum()
        else:
            loss = CrossEntropyLoss()(x, label)
        loss.backward()
        values.append((loss, x.grad.numpy()))
    (whole, whole_grad), (part, part_grad) = values
    np.testing.assert_allclose(float(average_of_all(part, world)), float(whole), rtol=1e-6)
    np.testing.assert_allclose(
        part_grad / world.size, whole_grad[world.rank : world.rank + 1], rtol=1e-5, atol=1e-8
    )
    nothing = CrossEntropyLoss()(paddle.to_tensor(logits[:1]), paddle.full([1, 6, 6], 255, "int64"))
    assert float(nothing) == 0.0


def check_statistics_are_the_first_ones(world: World) -> None:
    model = nn.Sequential(nn.BatchNorm2D(CHANNELS))
    parallel_model = parallelize(model, world, "cpu", sync_bn=False)
    assert type(model[0]) is nn.BatchNorm2D
    parallel_model(paddle.full([2, CHANNELS, 2, 2], 10.0 * (world.rank + 1)))
    np.testing.assert_allclose(model[0]._mean.numpy(), world.rank + 1.0, rtol=1e-6)
    share_statistics(model, world)
    np.testing.assert_allclose(model[0]._mean.numpy(), 1.0, rtol=1e-6)


def check_a_difference_is_found(world: World) -> None:
    require_same({"seed": 1}, world)
    try:
        require_same({"seed": 1, "iteration": 4 if world.rank else 8}, world)
    except UsageError as error:
        assert "process 0 has iteration 8, process 1 has 4" in str(error)
    else:
        raise AssertionError("the processes differ and nobody said so")


def main() -> None:
    with joined_world("cpu") as world:
        assert (world.rank, world.size) == (dist.get_rank(), dist.get_world_size())
        for check in (
            check_batch_norm,
            check_cross_entropy,
            check_statistics_are_the_first_ones,
            check_a_difference_is_found,
        ):
            check(world)
    print("all checks passed")


if __name__ == "__main__":
    main()
