"""All published layouts, and the recognition of a checkpoint's layout."""

from collections.abc import Mapping, Sequence

import numpy as np

from paddleseg_ext.common.errors import UsageError, check_choice
from paddleseg_ext.published import (
    coincheung,
    dabnet,
    mmseg,
    paddleseg,
    stdc,
    tensorflow,
    torchseg,
    torchvision,
)
from paddleseg_ext.published.generation import Generation

GENERATIONS: tuple[Generation, ...] = (
    *coincheung.V1_GENERATIONS,
    *coincheung.V2_GENERATIONS,
    *torchseg.GENERATIONS,
    *stdc.GENERATIONS,
    *dabnet.GENERATIONS,
    *mmseg.GENERATIONS,
    *paddleseg.GENERATIONS,
    *tensorflow.GENERATIONS,
    *torchvision.GENERATIONS,
)
AUTO = "auto"
SYSTEMS = tuple(dict.fromkeys(generation.system for generation in GENERATIONS))


def find_generation(system: str, name: str) -> Generation:
    """The layout `name` of `system`, or of any system if that is `auto`.

    Raises:
        UsageError: the system has no such layout; the nearest name or all of them are in the
            message.
    """
    candidates = {g.name: g for g in GENERATIONS if system in (AUTO, g.system)}
    check_choice("--generation", name, candidates)
    return candidates[name]


def recognise(
    arrays: Mapping[str, np.ndarray], system: str, name: str | None, source: str
) -> Generation:
    """The layout of a checkpoint, by the names and shapes of its tensors.

    Args:
        arrays: the checkpoint's tensors.
        system: one of `SYSTEMS`, or `auto` for any.
        name: the layout if the user names it; it must be possible.
        source: the file's name in messages.

    Raises:
        UsageError: no layout fits, the named one does not, or several do: some published layouts
            have the same tensors and different arithmetic, and a guess could be silently wrong.
    """
    shapes = {key: array.shape for key, array in arrays.items()}
    fitting = [g for g in GENERATIONS if system in (AUTO, g.system) and g.matches(shapes)]
    if name is not None:
        named = find_generation(system, name)
        if named not in fitting:
            raise UsageError(
                f"{source}: its tensors are not those of '{name}' ({named.title}); "
                f"{_describe(fitting)}"
            )
        return named
    if not fitting:
        elsewhere = [g for g in GENERATIONS if g.matches(shapes)]
        raise UsageError(
            f"{source}: not a checkpoint of a known layout"
            + (f" of '{system}'" if system != AUTO else "")
            + (f"; {_describe(elsewhere)}" if elsewhere else "")
            + f". It has {len(arrays)} tensors, the first is '{next(iter(arrays))}'"
        )
    if len(fitting) > 1:
        likely = [g for g in fitting if g.shows_signs(shapes)]
        fitting = likely if len(likely) == 1 else fitting
    if len(fitting) > 1:
        names = ", ".join(f"{g.name} ({g.title})" for g in fitting)
        raise UsageError(
            f"{source}: several published layouts have exactly these tensors and compute with "
            f"them differently: {names}. Say which with --generation"
        )
    return fitting[0]


def _describe(fitting: Sequence[Generation]) -> str:
    if not fitting:
        return "they fit no known layout"
    return "they fit " + " or ".join(f"{g.system} {g.name} ({g.title})" for g in fitting)
