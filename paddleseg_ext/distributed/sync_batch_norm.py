"""Batch norm over the batches of all processes on CPU, where Paddle has no kernel for it.

Paddle's own `SyncBatchNorm` runs on GPUs only. The result, running statistics included, is that of
one process on the concatenated batch; only the order of the sums differs.
"""

from typing import Any

import numpy as np
import paddle
import paddle.distributed as dist
from paddle import Tensor, nn
from paddle.autograd import PyLayer

PIXELS = [0, 2, 3]  # the axes of (N, C, H, W) that are averaged over


class SyncBatchNorm2D(nn.BatchNorm2D):
    """`nn.BatchNorm2D` with the mean and variance of all processes' batches.

    In evaluation, and with `use_global_stats`, it computes what `nn.BatchNorm2D` computes.
    """

    def __init__(self, layer: nn.BatchNorm2D):
        """Take over the parameters, statistics and mode of `layer`; optimizers stay valid."""
        super().__init__(
            layer._num_features,
            # Paddle's kernel has both in single precision, whatever the dtype of the tensors.
            momentum=float(np.float32(layer._momentum)),
            epsilon=float(np.float32(layer._epsilon)),
            weight_attr=None if layer.weight is not None else False,
            bias_attr=None if layer.bias is not None else False,
            use_global_stats=layer._use_global_stats,
        )
        self.weight, self.bias = layer.weight, layer.bias
        self._mean, self._variance = layer._mean, layer._variance
        self.training = layer.training

    def forward(self, x: Tensor) -> Tensor:
        """Normalises `(N, C, H, W)`; every process must call it equally often."""
        if not self.training or self._use_global_stats:
            return super().forward(x)
        count, mean, variance = global_moments(x.detach())
        y = _Normalize.apply(x, count, mean, variance, self._epsilon)
        # Outside, so that DataParallel averages the gradients of weight and bias like any other.
        if self.weight is not None:
            y = y * _per_channel(self.weight)
        if self.bias is not None:
            y = y + _per_channel(self.bias)
        with paddle.no_grad():
            for running, batch in ((self._mean, mean), (self._variance, variance)):
                running.set_value(running * self._momentum + batch * (1.0 - self._momentum))
        return y


def global_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel count (1,), mean (C,) and variance (C,) of `(N, C, H, W)` over all processes.

    The processes' means and squared deviations from them are combined as by Chan et al. (Updating
    Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979): sums of squares would
    cancel where the mean is large.
    """
    channels = x.shape[1]
    mean = x.mean(PIXELS)
    deviation = (x - _per_channel(mean)).square().sum(PIXELS)
    count = paddle.full([channels], x.size // channels, x.dtype)
    parts: list[Tensor] = []
    dist.all_gather(parts, paddle.stack([count, mean, deviation]))
    counts, means, deviations = paddle.stack(parts, axis=1).unbind(0)  # (processes, C) each
    total = counts.sum(0)
    global_mean = (counts * means).sum(0) / total
    spread = (counts * (means - global_mean).square()).sum(0)
    return total[:1], global_mean, (deviations.sum(0) + spread) / total


class _Normalize(PyLayer):
    """`(x - mean) / std`, where mean and std depend on the inputs of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, count: Tensor, mean: Tensor, variance: Tensor, epsilon: float
    ) -> Tensor:
        scale = _per_channel(paddle.rsqrt(variance + epsilon))
        normalized = (x - _per_channel(mean)) * scale
        ctx.save_for_backward(normalized, scale, count)
        return normalized

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        normalized, scale, count = ctx.saved_tensor()
        sums = paddle.stack([grad.sum(PIXELS), (grad * normalized).sum(PIXELS)])
        dist.all_reduce(sums)
        mean_grad, mean_product = (_per_channel(part / count) for part in sums.unbind(0))
        return scale * (grad - mean_grad - normalized * mean_product), None, None, None


def _per_channel(values: Tensor) -> Tensor:
    """`(C,)` reshaped to broadcast with `(N, C, H, W)`."""
    return values.reshape([1, -1, 1, 1])


def synchronize_batch_norms(model: nn.Layer) -> None:
    """Replace every `nn.BatchNorm2D` inside `model` by a `SyncBatchNorm2D`, in place."""
    for parent in model.sublayers(include_self=True):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2D:
                parent.add_sublayer(name, SyncBatchNorm2D(child))
