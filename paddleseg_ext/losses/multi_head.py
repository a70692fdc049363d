"""The `loss:` section of a yml: one loss and one weight per head."""

from collections.abc import Sequence
from typing import Any

from paddle import Tensor, nn

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import Config
from paddleseg_ext.registry import LOSSES, build


class MultiHeadLoss(nn.Layer):
    """Weighted sum of one loss per head, main head first."""

    def __init__(self, losses: Sequence[nn.Layer], weights: Sequence[float]):
        super().__init__()
        self.losses = nn.LayerList(losses)
        self.weights = list(weights)

    def forward(self, heads: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The total and the unweighted loss of each head, scalars.

        Args:
            heads: one `(N, C, H, W)` tensor per head, as `model(images)` returns them.
            labels: `(N, H, W)` int64.

        Raises:
            UsageError: the network has another number of heads than the yml has losses.
        """
        if len(heads) != len(self.losses):
            raise UsageError(
                f"loss: the network has {len(heads)} heads in training, "
                f"loss.coef has {len(self.losses)} weights; one per head is expected"
            )
        values = [
            _scalar(loss(logits, labels)) for loss, logits in zip(self.losses, heads, strict=True)
        ]
        total = sum(w * v for w, v in zip(self.weights, values, strict=True))
        return total, values


def _scalar(value: Tensor | Sequence[Tensor]) -> Tensor:
    """The sum of a loss's parts, which PaddleSeg's composed losses return."""
    return sum(value) if isinstance(value, list | tuple) else value


def build_loss(config: Config, ignore_index: int, num_classes: int | None = None) -> MultiHeadLoss:
    """Builds the losses of `loss:` (`types`, `coef`); a single type is used for every head.

    Args:
        config: the configuration.
        ignore_index: the label of pixels without loss.
        num_classes: of the labels. Where it is given, a loss must ignore `ignore_index` or a class.

    Raises:
        UsageError: keys missing, of the wrong kind, or of different lengths.
    """
    section: dict[str, Any] = config.loss
    for key in section:
        if key not in ("types", "coef"):
            raise UsageError(f"loss: unknown key '{key}' (known: types, coef)")
    types, weights = section.get("types"), section.get("coef")
    if not isinstance(types, list) or not types:
        raise UsageError("loss: 'types' must be a list of losses")
    if not isinstance(weights, list) or not all(isinstance(w, int | float) for w in weights):
        raise UsageError("loss: 'coef' must be a list of numbers, one per head")
    if len(types) == 1:
        types = types * len(weights)
    if len(types) != len(weights):
        raise UsageError(f"loss: {len(types)} types but {len(weights)} weights in 'coef'")
    for i, spec in enumerate(types):
        given = spec.get("ignore_index", ignore_index) if isinstance(spec, dict) else ignore_index
        if num_classes is not None and given not in (ignore_index, *range(num_classes)):
            raise UsageError(
                f"loss.types[{i}]: ignore_index is {given}, but ignored pixels are read as "
                f"{ignore_index}; leave it out"
            )
    losses = [
        _build_one(spec, f"loss.types[{i}]", config, ignore_index) for i, spec in enumerate(types)
    ]
    return MultiHeadLoss(losses, weights)


def _build_one(spec: Any, where: str, config: Config, ignore_index: int) -> nn.Layer:
    """Builds one loss; PaddleSeg's MixedLoss has others in `losses`."""
    if isinstance(spec, dict) and isinstance(spec.get("losses"), list):
        inner = [
            _build_one(part, f"{where}.losses[{i}]", config, ignore_index)
            for i, part in enumerate(spec["losses"])
        ]
        spec = {**spec, "losses": inner}
    return build(LOSSES, spec, where, config.only_paddleseg, ignore_index=ignore_index)
