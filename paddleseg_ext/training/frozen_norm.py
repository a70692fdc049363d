"""Batch norms that keep their running statistics, for batches too small to estimate new ones."""

from paddle import nn

# Every batch norm of Paddle, the synchronised one included, derives from it.
_BATCH_NORM = nn.layer.norm._BatchNormBase


def freeze_running_statistics(model: nn.Layer) -> None:
    """Let every batch norm use its running statistics and leave them unchanged.

    Scale and shift are still trained, as with mmsegmentation's `norm_eval`. To be called after
    `model.train()`, which undoes it.
    """
    for layer in model.sublayers():
        if isinstance(layer, _BATCH_NORM):
            layer.eval()
