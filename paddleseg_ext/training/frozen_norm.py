"""Batch norms that keep the statistics they have, for batches too small to measure new ones."""

from paddle import nn

# Every batch norm of Paddle, the synchronised one included, derives from it.
_BATCH_NORM = nn.layer.norm._BatchNormBase


def freeze_running_statistics(model: nn.Layer) -> None:
    """Let every batch norm use its running statistics and leave them as they are.

    Scale and shift go on learning, as with mmsegmentation's `norm_eval`. To be called after
    `model.train()`, which undoes it.
    """
    for layer in model.sublayers():
        if isinstance(layer, _BATCH_NORM):
            layer.eval()
