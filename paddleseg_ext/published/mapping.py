"""From the tensor names of a published checkpoint to ours, with every tensor accounted for."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from paddleseg_ext.common.errors import UsageError

# PyTorch's (or Paddle's own) names of a layer's tensors -> Paddle's.
_LEAVES = {
    "weight": "weight",
    "bias": "bias",
    "running_mean": "_mean",
    "running_var": "_variance",
    "_mean": "_mean",
    "_variance": "_variance",
}
# A counter that neither system uses at inference, and that Paddle does not have.
_COUNTER = "num_batches_tracked"

ABN_EPSILON = 1e-5
_LISTED_NAMES = 8


@dataclass(frozen=True)
class Rule:
    r"""Where the tensors of one module of the original go.

    Attributes:
        module: regular expression for the whole module path (the key without its last part).
        target: our module path, with `\1` for groups; None if the tensors are not needed.
        why: the reason, where they are not needed.
        fold_abn: the module is an InPlaceABN, which scales by |weight| + eps.
        fold_bias: the norm, by our module path, that follows this convolution. Ours has no bias
            there; theirs is subtracted from the norm's running mean, which is the same.
        transpose: the weight is a linear layer's, which Paddle stores as (in, out).
        optional: the module is one that a network may be built without.
    """

    module: str
    target: str | None
    why: str = ""
    fold_abn: bool = False
    fold_bias: str | None = None
    transpose: bool = False
    optional: bool = False


@dataclass
class Imported:
    """The tensors under our names, and what became of each of the checkpoint's."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    loaded: list[tuple[str, str]] = field(default_factory=list)
    folded: list[tuple[str, str, str]] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One line for each tensor of the checkpoint."""
        return (
            [f"loaded   {key} -> {target}" for key, target in self.loaded]
            + [f"folded   {key} -> {target} ({how})" for key, target, how in self.folded]
            + [f"dropped  {key} ({why})" for key, why in self.dropped]
        )

    def summary(self) -> str:
        """`loaded 200, folded 10, dropped 8 of 218 tensors`."""
        counts = len(self.loaded), len(self.folded), len(self.dropped)
        return "loaded {}, folded {}, dropped {} of {} tensors".format(*counts, sum(counts))


def rename(
    arrays: Mapping[str, np.ndarray],
    rules: Sequence[Rule],
    source: str,
    wanted: Collection[str],
) -> Imported:
    """Give every tensor our name by the first rule that matches its module.

    Args:
        arrays: the checkpoint.
        rules: of its layout.
        source: the file's name in messages.
        wanted: the names that the network has; tensors of an optional module that is not among
            them are dropped.

    Raises:
        UsageError: a tensor matches no rule, or two tensors with different values get one name.
    """
    result = Imported()
    leftover = []
    biases: list[tuple[str, str, np.ndarray]] = []
    compiled = [(re.compile(rule.module), rule) for rule in rules]
    for key, array in arrays.items():
        module, _, leaf = key.rpartition(".")
        matches = ((m, rule) for pattern, rule in compiled if (m := pattern.fullmatch(module)))
        match, rule = next(matches, (None, None))
        if match is None or rule is None or leaf not in (*_LEAVES, _COUNTER):
            leftover.append(key)
        elif rule.target is None:
            result.dropped.append((key, rule.why))
        elif leaf == _COUNTER:
            result.dropped.append((key, "a counter that inference does not use"))
        elif leaf == "bias" and rule.fold_bias is not None:
            biases.append((key, f"{match.expand(rule.fold_bias)}._mean", array))
        else:
            target = f"{match.expand(rule.target)}.{_LEAVES[leaf]}"
            if rule.optional and target not in wanted:
                result.dropped.append((key, "the network is built without it"))
                continue
            _store(result, key, target, leaf, array, rule, source)
    if leftover:
        more = f", ... ({len(leftover)} in all)" if len(leftover) > _LISTED_NAMES else ""
        raise UsageError(
            f"{source}: nothing is known of these tensors: "
            f"{', '.join(leftover[:_LISTED_NAMES])}{more}. Is it a checkpoint of another system "
            "or generation?"
        )
    for key, mean, array in biases:
        _subtract(result, key, mean, array)
    return result


def _subtract(result: Imported, key: str, mean: str, bias: np.ndarray) -> None:
    """Fold a convolution's bias into the running mean of the norm behind it."""
    if mean in result.arrays:
        result.arrays[mean] = result.arrays[mean] - bias
        result.folded.append((key, mean, "running mean - bias"))
    else:  # of an optional module that the network is built without
        result.dropped.append((key, "the network is built without it"))


def _store(
    result: Imported,
    key: str,
    target: str,
    leaf: str,
    array: np.ndarray,
    rule: Rule,
    source: str,
) -> None:
    if rule.transpose and leaf == "weight":
        array = np.ascontiguousarray(array.T)
    fold = rule.fold_abn and leaf == "weight"
    if fold:
        array = np.abs(array) + array.dtype.type(ABN_EPSILON)
    if target in result.arrays:
        # A module under a second name; dropping it is right only while it holds the same values.
        if not np.array_equal(result.arrays[target], array):
            raise UsageError(
                f"{source}: '{key}' and another tensor both are '{target}', with different values"
            )
        result.dropped.append((key, f"the same tensor as {target}"))
        return
    result.arrays[target] = array
    if fold:
        result.folded.append((key, target, f"|weight| + {ABN_EPSILON}"))
    else:
        result.loaded.append((key, target))
