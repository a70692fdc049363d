"""Maps the tensor names of a published checkpoint to ours and accounts for every tensor.

A layout is a tuple of rules, made by `layers` and `unused`. Each maps the path of a module: a
tensor's name without its last part. In a path of the original, `(a|b)` matches one of the words,
`#` a number and `**` any path. `*` in our path repeats what these matched, in their order:

    layers({"cp.conv_head(16|32)": "context_path.refine*"})
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import UsageError, shortened

# PyTorch's (or Paddle's own) names of a layer's tensors -> Paddle's.
_LEAVES = {
    "weight": "weight",
    "bias": "bias",
    "running_mean": "_mean",
    "running_var": "_variance",
    "_mean": "_mean",
    "_variance": "_variance",
}
# A counter of PyTorch's norms that inference does not use, and that Paddle does not have.
_COUNTER = "num_batches_tracked"
_SAME = "the same tensor as "
_OMITTED = "the network is built without it"

ABN_EPSILON = 1e-5


@dataclass(frozen=True)
class Rule:
    """Our module path for a module path of the original.

    Attributes:
        module: the path in the original, in the notation above.
        target: our path; None if the tensors are not needed.
        why: the reason why they are not needed.
        fold_abn: norms are InPlaceABNs, which scale by |weight| + eps.
        fold_bias: our path of the norm that follows this convolution. Our convolution has no bias;
            subtracting the original's from the norm's running mean has the same effect.
        transpose: the module is a linear layer, whose weight Paddle stores as (in, out).
        optional: a network may be built without the module.
    """

    module: str
    target: str | None
    why: str = ""
    fold_abn: bool = False
    fold_bias: str | None = None
    transpose: bool = False
    optional: bool = False


def layers(
    table: Mapping[str, str],
    conv: str = "conv",
    norm: str = "bn",
    *,
    fold_bias: bool = False,
    **options: Any,
) -> tuple[Rule, ...]:
    """Rules for single layers, and for pairs of a convolution and a norm as our `ConvBN` has them.

    Args:
        table: path of the layer or pair in the original -> our path.
        conv: the original's name of the convolution in a pair; ours is `conv`.
        norm: the original's name of the norm in a pair; ours is `bn`.
        fold_bias: the convolutions of pairs have biases.
        **options: `fold_abn`, `transpose` and `optional` of every `Rule`.
    """
    rules: list[Rule] = []
    for old, new in table.items():
        biased_norm = f"{new}.bn" if fold_bias else None
        rules += [
            Rule(old, new, **options),
            Rule(f"{old}.{conv}", f"{new}.conv", fold_bias=biased_norm, **options),
            Rule(f"{old}.{norm}", f"{new}.bn", **options),
        ]
    return tuple(rules)


def unused(module: str, why: str) -> Rule:
    """The rule for tensors that our network does not need."""
    return Rule(module, None, why)


@dataclass
class Imported:
    """The tensors under our names, and what was done with each tensor of the checkpoint."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    loaded: list[tuple[str, str]] = field(default_factory=list)
    folded: list[tuple[str, str, str]] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One line per tensor of the checkpoint."""
        return (
            [f"loaded   {key} -> {target}" for key, target in self.loaded]
            + [f"folded   {key} -> {target} ({how})" for key, target, how in self.folded]
            + [f"dropped  {key} ({why})" for key, why in self.dropped]
        )

    def table(self) -> list[str]:
        """Counts per part of our network, then per reason for which tensors were dropped.

        A part is the first word of our name of a tensor; of dropped ones the first is named.
        """
        loaded = Counter(target.partition(".")[0] for _, target in self.loaded)
        folded = Counter(target.partition(".")[0] for _, target, _ in self.folded)
        parts = dict.fromkeys((*loaded, *folded))
        width = max(map(len, ("part", *parts)))
        lines = [f"{'part':<{width}}  loaded  folded"]
        lines += [f"{part:<{width}}  {loaded[part]:>6}  {folded[part]:>6}" for part in parts]
        dropped: dict[str, list[str]] = {}
        for key, why in self.dropped:
            reason = "a second name of a tensor" if why.startswith(_SAME) else why
            dropped.setdefault(reason, []).append(key)
        for reason, keys in dropped.items():
            lines.append(f"dropped {len(keys):>4}: {reason} ({keys[0]}{', ...' * (len(keys) > 1)})")
        return lines

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
    """Returns the checkpoint's tensors under our names, by the first rule that matches each.

    Args:
        arrays: the checkpoint.
        rules: those of its layout.
        source: the file's name in messages.
        wanted: names of the network's tensors; a tensor of an optional module that is not among
            them is dropped.

    Raises:
        UsageError: a tensor matches no rule, or two tensors with different values get one name.
    """
    result = Imported()
    unknown = []
    biases: list[tuple[str, str, np.ndarray]] = []
    compiled = [(_pattern(rule.module), rule) for rule in rules]
    for key, array in arrays.items():
        module, _, leaf = key.rpartition(".")
        matches = ((m, rule) for pattern, rule in compiled if (m := pattern.fullmatch(module)))
        match, rule = next(matches, (None, None))
        if match is None or rule is None:
            unknown.append(key)
        elif rule.target is None:
            result.dropped.append((key, rule.why))
        elif leaf not in (*_LEAVES, _COUNTER):
            unknown.append(key)
        elif leaf == _COUNTER:
            result.dropped.append((key, "a counter that inference does not use"))
        elif leaf == "bias" and rule.fold_bias is not None:
            biases.append((key, f"{_fill(rule.fold_bias, match)}._mean", array))
        else:
            target = f"{_fill(rule.target, match)}.{_LEAVES[leaf]}"
            if rule.optional and target not in wanted:
                result.dropped.append((key, _OMITTED))
            else:
                _store(result, key, target, array, rule, source)
    if unknown:
        raise UsageError(
            f"{source}: unknown tensors: {shortened(unknown)}. The layout does not have them; "
            "check --from and --generation"
        )
    for key, mean, bias in biases:
        _subtract(result, key, mean, bias)
    return result


def _pattern(module: str) -> re.Pattern[str]:
    literal = module.replace(".", r"\.")
    return re.compile(literal.replace("#", r"(\d+)").replace("**", "(.+)"))


def _fill(target: str, match: re.Match[str]) -> str:
    matched = iter(match.groups())
    return re.sub(r"\*", lambda _: next(matched), target)


def _subtract(result: Imported, key: str, mean: str, bias: np.ndarray) -> None:
    """Fold a convolution's bias into the running mean of the norm that follows it."""
    if mean in result.arrays:
        result.arrays[mean] = result.arrays[mean] - bias
        result.folded.append((key, mean, "running mean - bias"))
    else:  # the norm belongs to an optional module
        result.dropped.append((key, _OMITTED))


def _store(
    result: Imported, key: str, target: str, array: np.ndarray, rule: Rule, source: str
) -> None:
    is_weight = target.endswith(".weight")
    if rule.transpose and is_weight:
        array = np.ascontiguousarray(array.T)
    fold = rule.fold_abn and is_weight and array.ndim == 1
    if fold:
        array = np.abs(array) + array.dtype.type(ABN_EPSILON)
    if target in result.arrays:
        # The same module under a second name, as long as its values are the same.
        if not np.array_equal(result.arrays[target], array):
            raise UsageError(
                f"{source}: '{key}' and another tensor both map to '{target}', but their values "
                "differ"
            )
        result.dropped.append((key, f"{_SAME}{target}"))
        return
    result.arrays[target] = array
    if fold:
        result.folded.append((key, target, f"|weight| + {ABN_EPSILON}"))
    else:
        result.loaded.append((key, target))
