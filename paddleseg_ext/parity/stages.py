"""Stages: the runtimes that are compared, as `--stages` names them."""

from collections.abc import Sequence

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.machine import NO_GPU, has_gpu_build
from paddleseg_ext.inference.runtime import RuntimeSpec, known_runtimes

EAGER, STATIC = "eager", "static"
DEFAULT_STAGES = (STATIC, "paddle", "paddle_onednn")
DEFAULT_LEGACY_STAGES = DEFAULT_STAGES[1:]  # Paddle 3 runs a `.pdmodel` in Paddle Inference only


def stage_names(words: Sequence[str]) -> list[str]:
    """The names in `--stages eager,static paddle`, separated by commas or spaces, each once."""
    return list(dict.fromkeys(name for word in words for name in word.split(",") if name))


def parse_stages(words: Sequence[str]) -> list[RuntimeSpec]:
    """Runtimes of `--stages eager,static paddle`: names separated by commas or spaces, each once.

    Raises:
        UsageError: no name, an unknown one (the nearest is named), or one that cannot run here.
    """
    names = stage_names(words)
    if not names:
        raise UsageError(f"--stages: at least one of {', '.join(known_runtimes())} is expected")
    try:
        stages = [RuntimeSpec.parse(name) for name in names]
    except UsageError as error:
        raise UsageError(f"--stages: {error}") from None
    for stage in stages:
        if stage.device == "gpu" and stage.engine == "onnxruntime":
            try:
                stage.check()
            except UsageError as error:
                raise UsageError(f"--stages: {error}") from None
        elif stage.device == "gpu" and not has_gpu_build():
            raise UsageError(f"--stages: {stage.name}: {NO_GPU}")
    return stages
