"""What every way of running a network offers. All of them are scored through the same pipeline."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError

PROBE_SIDE = 256  # pixels; any size that every network takes


@dataclass(frozen=True)
class RunTimes:
    """Seconds that the parts of a run took.

    Attributes:
        copy_in_s: from the batch to the runtime's input.
        run_s: the network, with all that a new input size costs; with the copies of a runtime that
            does not tell them apart.
        copy_out_s: from the runtime's output to the array that is returned.
        synchronised: whether the device had finished when the network's clock was stopped; said by
            a backend that knows. A GPU returns at once and computes afterwards, so that without it
            `run_s` means nothing.
    """

    copy_in_s: float
    run_s: float
    copy_out_s: float = 0.0
    synchronised: bool = False

    @property
    def total_s(self) -> float:
        """From a batch to its output."""
        return self.copy_in_s + self.run_s + self.copy_out_s


class Backend(Protocol):
    """A network that is ready to run."""

    def run(self, batch: NDArray) -> NDArray:
        """Run one batch.

        Args:
            batch: (N, 3, H, W) float32, contiguous; any H and W that the network takes. Where the
                bundle's input is uint8, that, or whole numbers as float32.

        Returns:
            (N, C, h, w) float32 scores, or (N, h, w) integer class ids.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What runs, for reports, in the runtime's own words rather than in ours.

        Every backend of a bundle tells `name`, `version`, `device`, `precision`, `cpu_threads`,
        `kernels` (kernel -> how often a run calls it), `kernel_precisions` (likewise) and
        `int8_kernels`; `backends.activity.shortfall` compares that with what was asked for.
        """
        ...


class TimedBackend(Backend, Protocol):
    """A backend that tells the parts of a run; all those of `open_backend` do."""

    def run_timed(self, batch: NDArray) -> tuple[NDArray, RunTimes]:
        """As `run`, which is this without the times."""
        ...


def probe_batch(input_shape: Sequence[int | None] | None, input_dtype: str) -> NDArray:
    """A batch of zeros that a graph takes: what a backend runs to see which kernels it has."""
    free = (1, 3, PROBE_SIDE, PROBE_SIDE)
    shape = tuple(
        side if side is not None and side > 0 else default
        for side, default in zip(input_shape or free, free, strict=True)
    )
    return np.zeros(shape, input_dtype)


def as_input(batch: NDArray, input_dtype: str) -> NDArray:
    """The batch, contiguous and in the graph's type.

    Raises:
        DataError: the graph takes bytes, and the batch holds something else.
    """
    if input_dtype == "uint8" and batch.dtype != np.uint8:
        whole = np.rint(batch)
        if not np.array_equal(whole, batch) or whole.min() < 0 or whole.max() > 255:
            raise DataError(
                "the bundle takes pixels from 0 to 255 and normalises them itself; "
                "leave Normalize out of its transforms"
            )
        batch = whole
    return np.ascontiguousarray(batch, dtype=input_dtype)


def filled(batch: NDArray, input_shape: Sequence[int | None] | None) -> NDArray:
    """The batch, its last image repeated where the graph takes more of them (a folder's rest)."""
    fixed = (input_shape or [None])[0]
    missing = (fixed or 0) - len(batch)
    return np.concatenate([batch, *[batch[-1:]] * missing]) if missing > 0 else batch


@contextmanager
def runtime_errors(file: Path, runtime: str, batch: NDArray) -> Iterator[None]:
    """A run in which a runtime's own exception becomes one clear line.

    Args:
        file: the graph.
        runtime: its name in the message.
        batch: what is run.

    Raises:
        UsageError: the runtime refuses to run the graph on this input.
    """
    try:
        yield
    except UsageError:
        raise
    # The runtimes' exceptions have no common base but this one.
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = [line for line in lines if "Error:" in line] or lines or [type(error).__name__]
        raise UsageError(
            f"{file}: {runtime} cannot run it on an input of {batch.shape}: {told[0]}; is this the "
            "graph of this network, and are the transforms its own?"
        ) from error


def check_shape(input_shape: Sequence[int | None] | None, shape: tuple[int, ...]) -> None:
    """Refuse what the graph was not exported for; the runtimes' own words help nobody.

    Raises:
        DataError: another height or width than the bundle was exported for.
        UsageError: a larger batch than the bundle was exported for.
    """
    for axis, fixed in enumerate(input_shape or []):
        if fixed is None or fixed < 1 or fixed == shape[axis]:
            continue
        if axis == 0 and shape[0] < fixed:
            continue  # `filled` adds what is missing
        if axis == 0:
            raise UsageError(
                f"the bundle was exported for batches of {fixed}: use --batch_size {fixed}, "
                "or export it without a fixed batch size"
            )
        _, _, height, width = input_shape or []
        raise DataError(
            f"the bundle was exported for inputs of {width}x{height} (width x height), "
            f"got {shape[3]}x{shape[2]}; put a Resize into its transforms, or export it "
            "without a fixed size"
        )
