"""Learning-rate schedules: the rate of an iteration as a plain function of its number.

A schedule has no state, so a resumed run needs nothing but its iteration. Keys of the yml are
PaddleSeg's; `warmup` is ours.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from paddleseg_ext.common.errors import UsageError, nearest_name

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class PolynomialDecay:
    """`(lr - end_lr) * (1 - i / n) ** power + end_lr`, the rule of every network here."""

    learning_rate: float
    decay_steps: int  # n; by default all iterations that are not warm-up
    end_lr: float = 0.0
    power: float = 0.9

    def __call__(self, iteration: int) -> float:
        """The rate of `iteration`, counted from 0."""
        done = min(iteration, self.decay_steps) / self.decay_steps
        return (self.learning_rate - self.end_lr) * (1.0 - done) ** self.power + self.end_lr


@dataclass(frozen=True)
class CosineAnnealingDecay:
    """Half a cosine from `learning_rate` down to `eta_min`."""

    learning_rate: float
    T_max: int  # by default all iterations that are not warm-up
    eta_min: float = 0.0

    def __call__(self, iteration: int) -> float:
        """The rate of `iteration`, counted from 0."""
        wave = (1.0 + math.cos(math.pi * min(iteration, self.T_max) / self.T_max)) / 2.0
        return self.eta_min + (self.learning_rate - self.eta_min) * wave


@dataclass(frozen=True)
class StepDecay:
    """`learning_rate * gamma ** (i // step_size)`."""

    learning_rate: float
    step_size: int
    gamma: float = 0.1

    def __call__(self, iteration: int) -> float:
        """The rate of `iteration`, counted from 0."""
        return self.learning_rate * self.gamma ** (iteration // self.step_size)


@dataclass(frozen=True)
class Constant:
    """The same rate throughout."""

    learning_rate: float

    def __call__(self, iteration: int) -> float:
        """The rate of `iteration`, counted from 0."""
        return self.learning_rate


@dataclass(frozen=True)
class Warmup:
    """A rising start before (or over) a decay.

    Attributes:
        decay: what follows.
        warmup_iters: w, the iterations of warm-up.
        warmup_start_lr: the rate of iteration 0.
        warmup: `linear`: `start + (lr - start) * i / w`, then the decay from its beginning
            (PaddleSeg, CoinCheung); `exp`: `start * (lr / start) ** (i / w)`, likewise
            (CoinCheung, STDC); `scaled`: the decay runs from iteration 0 and is multiplied by
            `1 - (1 - i / w) * (1 - start / lr)` (mmsegmentation).
    """

    decay: PolynomialDecay | CosineAnnealingDecay | StepDecay | Constant
    warmup_iters: int
    warmup_start_lr: float
    warmup: str = "linear"

    def __call__(self, iteration: int) -> float:
        """The rate of `iteration`, counted from 0."""
        after = iteration if self.warmup == "scaled" else iteration - self.warmup_iters
        if iteration >= self.warmup_iters:
            return self.decay(after)
        done, start, rate = (
            iteration / self.warmup_iters,
            self.warmup_start_lr,
            self.decay.learning_rate,
        )
        if self.warmup == "exp":
            return start * (rate / start) ** done
        if self.warmup == "linear":
            return start + (rate - start) * done
        return self.decay(after) * (1.0 - (1.0 - done) * (1.0 - start / rate))


DECAYS = {
    kind.__name__: kind for kind in (PolynomialDecay, CosineAnnealingDecay, StepDecay, Constant)
}
WARMUP_KEYS = ("warmup_iters", "warmup_start_lr", "warmup")
WARMUP_FORMS = ("linear", "exp", "scaled")
_LENGTH_KEY = {"PolynomialDecay": "decay_steps", "CosineAnnealingDecay": "T_max"}


def build_schedule(section: Mapping[str, Any], iters: int) -> Schedule:
    """The schedule that `lr_scheduler:` describes, for a run of `iters` iterations.

    Raises:
        UsageError: an unknown type or key (the nearest is named), a missing or unfit value.
    """
    where = "lr_scheduler"
    arguments = {key: value for key, value in section.items() if key != "type"}
    warmup = {key: arguments.pop(key) for key in WARMUP_KEYS if key in arguments}
    name = section.get("type", "PolynomialDecay")
    if not isinstance(name, str) or name not in DECAYS:
        raise UsageError(f"{where}: unknown type '{name}'{nearest_name(str(name), DECAYS)}")
    decay_type = DECAYS[name]
    known = {field.name: field for field in fields(decay_type)}
    for key, value in arguments.items():
        if key not in known:
            raise UsageError(
                f"{where}: {name} takes no '{key}'{nearest_name(key, [*known, *WARMUP_KEYS])}"
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{where}: '{key}' must be a number, got {value!r}")
    warmup_iters = _check_warmup(warmup, where)
    if name in _LENGTH_KEY:
        decaying = iters if warmup.get("warmup") == "scaled" else iters - warmup_iters
        arguments.setdefault(_LENGTH_KEY[name], max(1, decaying))
    for key, field in known.items():
        if field.default is MISSING and key not in arguments:
            raise UsageError(f"{where}: '{key}' is missing")
    for key in ("learning_rate", "decay_steps", "T_max", "step_size", "gamma", "power"):
        if key in arguments and not 0 < arguments[key] < math.inf:
            raise UsageError(f"{where}: '{key}' must be above 0, got {arguments[key]}")
    for key in ("end_lr", "eta_min"):
        if not 0 <= arguments.get(key, 0) < math.inf:
            raise UsageError(f"{where}: '{key}' must be at least 0, got {arguments[key]}")
    decay = decay_type(**arguments)
    return Warmup(decay, **warmup) if warmup_iters else decay


def _check_warmup(warmup: Mapping[str, Any], where: str) -> int:
    """The number of warm-up iterations, 0 for none."""
    iters = warmup.get("warmup_iters", 0)
    if isinstance(iters, bool) or not isinstance(iters, int) or iters < 0:
        raise UsageError(f"{where}: 'warmup_iters' must be a whole number, got {iters!r}")
    form = warmup.get("warmup", "linear")
    if form not in WARMUP_FORMS:
        raise UsageError(f"{where}: 'warmup: {form}'{nearest_name(str(form), WARMUP_FORMS)}")
    if iters:
        start: Any = warmup.get("warmup_start_lr")
        is_number = isinstance(start, int | float) and not isinstance(start, bool)
        if not is_number or not (0 < start < math.inf or (form != "exp" and start == 0)):
            raise UsageError(f"{where}: warm-up needs 'warmup_start_lr' above 0, got {start!r}")
    elif warmup:
        raise UsageError(f"{where}: {', '.join(warmup)} without 'warmup_iters' does nothing")
    return iters
