"""Learning-rate schedules: the rate of an iteration as a plain function of its number.

A schedule has no state, so a resumed run needs nothing but its iteration. Keys of the yml are
PaddleSeg's; `warmup` is ours.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from itertools import pairwise
from typing import Any, Literal

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.common.options import from_section, option

Schedule = Callable[[int], float]
_RATE = "highest rate"
_LENGTH = "iterations of the decay; by default all that are not warm-up"


@dataclass(frozen=True)
class PolynomialDecay:
    """`(lr - end_lr) * (1 - i / n) ** power + end_lr`, the rule of every network here."""

    learning_rate: float = option(MISSING, _RATE, above=0)
    decay_steps: float = option(MISSING, _LENGTH, above=0)
    end_lr: float = option(0.0, "rate at the end", at_least=0)
    power: float = option(0.9, "of the decay", above=0)

    def __call__(self, iteration: int) -> float:
        """The rate of `iteration`, counted from 0."""
        done = min(iteration, self.decay_steps) / self.decay_steps
        return (self.learning_rate - self.end_lr) * (1.0 - done) ** self.power + self.end_lr


@dataclass(frozen=True)
class CosineAnnealingDecay:
    """Half a cosine from `learning_rate` down to `eta_min`."""

    learning_rate: float = option(MISSING, _RATE, above=0)
    T_max: float = option(MISSING, _LENGTH, above=0)
    eta_min: float = option(0.0, "rate at the end", at_least=0)

    def __call__(self, iteration: int) -> float:
        """The rate of `iteration`, counted from 0."""
        wave = (1.0 + math.cos(math.pi * min(iteration, self.T_max) / self.T_max)) / 2.0
        return self.eta_min + (self.learning_rate - self.eta_min) * wave


@dataclass(frozen=True)
class StepDecay:
    """`learning_rate * gamma ** (i // step_size)`."""

    learning_rate: float = option(MISSING, _RATE, above=0)
    step_size: float = option(MISSING, "iterations between two steps", above=0)
    gamma: float = option(0.1, "factor on the rate per step", above=0)

    def __call__(self, iteration: int) -> float:
        """The rate of `iteration`, counted from 0."""
        return self.learning_rate * self.gamma ** (iteration // self.step_size)


@dataclass(frozen=True)
class MultiStepDecay:
    """`learning_rate * gamma ** n` after `n` of the `milestones`."""

    learning_rate: float = option(MISSING, _RATE, above=0)
    milestones: list[int] = option(MISSING, "iterations of the steps, rising", at_least=1)
    gamma: float = option(0.1, "factor on the rate per step", above=0)

    def __post_init__(self) -> None:
        """Raise `ValueError` where the milestones do not rise."""
        _check_rising("milestones", self.milestones)

    def __call__(self, iteration: int) -> float:
        """The rate of `iteration`, counted from 0."""
        return self.learning_rate * self.gamma ** sum(m <= iteration for m in self.milestones)


@dataclass(frozen=True)
class PiecewiseDecay:
    """`values[n]` after `n` of the `boundaries`."""

    boundaries: list[int] = option(MISSING, "iterations of the steps, rising", at_least=1)
    values: list[float] = option(MISSING, "rates, one more than boundaries", above=0)
    learning_rate: float = option(0.0, "where a warm-up ends", at_least=0)

    def __post_init__(self) -> None:
        """Raise `ValueError` where the lists do not fit."""
        _check_rising("boundaries", self.boundaries)
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"{len(self.boundaries) + 1} 'values' are expected for {len(self.boundaries)} "
                f"'boundaries', got {len(self.values)}"
            )

    def __call__(self, iteration: int) -> float:
        """The rate of `iteration`, counted from 0."""
        return self.values[sum(b <= iteration for b in self.boundaries)]


def _check_rising(name: str, steps: list[int]) -> None:
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise ValueError(f"'{name}' must rise, got {steps}")


@dataclass(frozen=True)
class Constant:
    """The same rate throughout."""

    learning_rate: float = option(MISSING, _RATE, above=0)

    def __call__(self, iteration: int) -> float:
        """The rate of `iteration`, counted from 0."""
        return self.learning_rate


Decay = (
    PolynomialDecay | CosineAnnealingDecay | StepDecay | MultiStepDecay | PiecewiseDecay | Constant
)


@dataclass(frozen=True)
class Warmup:
    """A rising start before (or over) a decay: of w iterations, from rate `start` to `lr`.

    `linear` is `start + (lr - start) * i / w`, then the decay from its beginning (PaddleSeg,
    CoinCheung); `exp` is `start * (lr / start) ** (i / w)`, likewise (CoinCheung, STDC); in
    `scaled` the decay runs from iteration 0 and is multiplied by
    `1 - (1 - i / w) * (1 - start / lr)` (mmsegmentation).
    """

    decay: Decay
    warmup_iters: int = option(MISSING, "iterations of warm-up", at_least=1)
    warmup_start_lr: float = option(MISSING, "rate of iteration 0", at_least=0)
    warmup: Literal["linear", "exp", "scaled"] = option("linear", "form of the warm-up")

    def __post_init__(self) -> None:
        """Raise `ValueError` where the form does not begin at 0."""
        if self.warmup == "exp" and self.warmup_start_lr == 0:
            raise ValueError("'warmup: exp' needs a 'warmup_start_lr' above 0")

    def __call__(self, iteration: int) -> float:
        """The rate of `iteration`, counted from 0."""
        after = iteration if self.warmup == "scaled" else iteration - self.warmup_iters
        if iteration >= self.warmup_iters:
            return self.decay(after)
        done = iteration / self.warmup_iters
        start, rate = self.warmup_start_lr, self.decay.learning_rate
        if self.warmup == "exp":
            return start * (rate / start) ** done
        if self.warmup == "linear":
            return start + (rate - start) * done
        return self.decay(after) * (1.0 - (1.0 - done) * (1.0 - start / rate))


DECAYS: dict[str, type[Decay]] = {
    kind.__name__: kind
    for kind in (
        PolynomialDecay,
        CosineAnnealingDecay,
        StepDecay,
        MultiStepDecay,
        PiecewiseDecay,
        Constant,
    )
}
WARMUP_KEYS = tuple(field.name for field in fields(Warmup) if field.metadata)
_LENGTH_KEYS = {"PolynomialDecay": "decay_steps", "CosineAnnealingDecay": "T_max"}
_WHERE = "lr_scheduler"


def build_schedule(section: Mapping[str, Any], iters: int) -> Schedule:
    """The schedule that `lr_scheduler:` describes, for a run of `iters` iterations.

    Raises:
        UsageError: an unknown type or key (the nearest is named), a missing or unfit value.
    """
    arguments = {key: value for key, value in section.items() if key != "type"}
    warmup = {key: arguments.pop(key) for key in WARMUP_KEYS if key in arguments}
    name = section.get("type", "PolynomialDecay")
    if not isinstance(name, str) or name not in DECAYS:
        raise UsageError(f"{_WHERE}: unknown type '{name}'{nearest_name(str(name), DECAYS)}")
    known = [*(field.name for field in fields(DECAYS[name])), *WARMUP_KEYS]
    for key in arguments:
        if key not in known:
            raise UsageError(f"{_WHERE}: {name} takes no '{key}'{nearest_name(str(key), known)}")
    if warmup and warmup.get("warmup_iters", 0) == 0:
        raise UsageError(f"{_WHERE}: {', '.join(warmup)} without 'warmup_iters' does nothing")
    rising = None
    if warmup:  # over a decay that is replaced below, once its length is known
        rising = from_section(Warmup, warmup, _WHERE, decay=Constant(1.0))
    if name in _LENGTH_KEYS:
        before = 0 if rising is None or rising.warmup == "scaled" else rising.warmup_iters
        arguments.setdefault(_LENGTH_KEYS[name], max(1, iters - before))
    decay = from_section(DECAYS[name], arguments, _WHERE)
    return decay if rising is None else replace(rising, decay=decay)
