"""Budgets: by how much a run of each precision may differ, from `budgets.yml` and a user's file."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import UsageError, check_choice, check_keys
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.yml import read_sections
from paddleseg_ext.scoring.verdict import Budget

DEFAULTS = Path(__file__).with_name("budgets.yml")
Budgets = Mapping[str, Budget]
_KEYS = tuple(field.name for field in fields(Budget))


def read_budgets(path: str | Path | None = None) -> dict[str, Budget]:
    """Precision -> budget.

    Args:
        path: a yml in the form of `budgets.yml`; values that it does not name keep their defaults.

    Raises:
        UsageError: an unknown precision or key (the nearest is named), or a value out of range.
    """
    form = f"'PRECISION: {{{', '.join(_KEYS)}}}'"
    budgets = {name: Budget(**of) for name, of in read_sections(DEFAULTS, form).items()}
    if path is None:
        return budgets
    for precision, values in read_sections(require_file(path, "--budgets"), form).items():
        check_choice(str(path), precision, budgets, "precision")
        budgets[precision] = _changed(budgets[precision], values, f"{path}: {precision}")
    return budgets


def to_json(budgets: Budgets) -> dict[str, dict[str, Any]]:
    """Plain numbers, for reports."""
    return {name: asdict(budget) for name, budget in budgets.items()}


def _changed(budget: Budget, values: Any, where: str) -> Budget:
    if not isinstance(values, dict):
        raise UsageError(f"{where}: a section of {', '.join(_KEYS)} is expected, got {values!r}")
    check_keys(where, values, _KEYS)
    for key, value in values.items():
        if key == "least_class_pixels":
            if type(value) is not int or value < 0:
                raise UsageError(f"{where}.{key}: a count of pixels is expected, got {value!r}")
        elif type(value) not in (int, float) or not 0 <= value <= 1:
            raise UsageError(f"{where}.{key}: a ratio from 0 to 1 is expected, got {value!r}")
    return replace(budget, **values)
