"""Which samples an iteration sees, and with which random numbers they are augmented.

Both follow from (seed, iteration) alone: the order of an epoch from (seed, epoch), the
augmentation of a sample from (seed, epoch, sample). So a resumed run continues exactly, and
neither workers nor processes change which samples are seen.
"""

import random
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.distributed.world import World

if TYPE_CHECKING:
    from paddle import Tensor


class SampleKey(NamedTuple):
    """A sample of an epoch."""

    epoch: int
    sample: int


# Image, label and number, and the edge map where the data set makes one.
Sample = tuple[np.ndarray, np.ndarray, int] | tuple[np.ndarray, np.ndarray, int, np.ndarray]


@dataclass(frozen=True)
class GlobalBatch:
    """The samples of one iteration, in all processes together.

    Attributes:
        batch_size: samples of one batch of one process.
        accumulate: batches per process and iteration.
        world: this process among those that train together.
    """

    batch_size: int
    accumulate: int = 1
    world: World = World()

    @property
    def share(self) -> int:
        """Samples per process and iteration."""
        return self.batch_size * self.accumulate

    @property
    def size(self) -> int:
        """Samples per iteration."""
        return self.share * self.world.size

    def require(self, num_samples: int) -> None:
        """Refuse a data set that does not fill a global batch.

        Raises:
            UsageError: it has fewer samples.
        """
        if num_samples < self.size:
            raise UsageError(
                f"the training set has {num_samples} samples, fewer than one batch of {self.size} "
                f"(batch_size {self.batch_size}, {self.world.size} processes, accumulate "
                f"{self.accumulate})"
            )


class EpochBatches:
    """The batches of iterations `first` to `last` (excluded) of one process.

    Every epoch is a permutation of all samples, cut into global batches; the rest that does not
    fill one is left out of that epoch. A global batch is split evenly between the processes, and a
    process's share into the `accumulate` batches of an iteration. So an iteration sees the same
    samples, whatever its global batch consists of.
    """

    def __init__(self, num_samples: int, batch: GlobalBatch, seed: int, first: int, last: int):
        """
        Args:
            num_samples: size of the data set.
            batch: the samples of an iteration.
            seed: of the order.
            first: the first iteration, counted from 0.
            last: the iteration to stop before.

        Raises:
            UsageError: fewer samples than a global batch.
        """
        batch.require(num_samples)
        self._num_samples = num_samples
        self._batch = batch
        self._seed = seed
        self._first, self._last = first, last

    @property
    def batches_per_epoch(self) -> int:
        """Iterations per epoch."""
        return self._num_samples // self._batch.size

    def __len__(self) -> int:
        """The number of batches to come."""
        return (self._last - self._first) * self._batch.accumulate

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yields the keys of one batch after the other."""
        order: np.ndarray = np.empty(0)
        shuffled_epoch = -1
        for iteration in range(self._first, self._last):
            epoch, batch = divmod(iteration, self.batches_per_epoch)
            if epoch != shuffled_epoch:
                generator = np.random.default_rng([self._seed, epoch])
                order, shuffled_epoch = generator.permutation(self._num_samples), epoch
            share, size = self._batch.share, self._batch.batch_size
            start = batch * self._batch.size + self._batch.world.rank * share
            for begin in range(start, start + share, size):
                yield [SampleKey(epoch, int(i)) for i in order[begin : begin + size]]


class SeededSamples:
    """A data set addressed by `SampleKey`; seeds the global generators before each sample.

    Global, because PaddleSeg's transforms draw from `random` and `np.random` and know no other.
    """

    def __init__(self, dataset: Sequence[dict[str, Any]], seed: int):
        self._dataset = dataset
        self._seed = seed

    def __len__(self) -> int:
        """The number of samples."""
        return len(self._dataset)

    def __getitem__(self, key: SampleKey) -> Sample | Exception:
        """`(3, H, W)` float32 image, `(H, W)` int64 label (augmented), and the sample's number.

        Where the data set has an edge map (PaddleSeg's `edge: True`), it is the fourth, int64.

        An error is returned and not raised; see `batch_or_failure` for the reason.
        """
        try:
            return self._read(key)
        except Exception as error:
            return error

    def _read(self, key: SampleKey) -> Sample:
        state = np.random.SeedSequence([self._seed, key.epoch, key.sample]).generate_state(2)
        random.seed(int(state[0]))
        np.random.seed(int(state[1]))
        sample = self._dataset[key.sample]
        label = sample["label"].reshape(sample["label"].shape[-2:]).astype(np.int64)
        image = sample["img"].astype(np.float32)
        if "edge" in sample:
            return image, label, key.sample, sample["edge"].astype(np.int64)
        return image, label, key.sample


def stack_samples(samples: list[Sample]) -> tuple[np.ndarray, ...]:
    """One batch: `(N, 3, H, W)` float32, `(N, H, W)` int64 and the samples' `(N,)` numbers.

    Edge maps are the fourth where the samples have them.

    Raises:
        UsageError: samples of different sizes; a crop is missing in the yml.
    """
    shapes = {sample[0].shape for sample in samples}
    if len(shapes) > 1:
        raise UsageError(
            f"train_dataset: samples of one batch differ in size ({sorted(shapes)}): end its "
            "transforms with one that fixes the size, such as RandomPaddingCrop"
        )
    images, labels, numbers, *edges = zip(*samples, strict=True)
    stacked = np.stack(images), np.stack(labels), np.array(numbers, np.int64)
    return (*stacked, *map(np.stack, edges))


def batch_or_failure(samples: list[Sample | Exception]) -> tuple[np.ndarray, ...]:
    """The arrays of `stack_samples`, or after a failure the two that `raise_failure` reads.

    An exception would end Paddle's reading thread and leave the run waiting for ever. From a
    reading process it would arrive as a page of text.
    """
    try:
        good = []
        for sample in samples:
            if isinstance(sample, Exception):
                raise sample
            good.append(sample)
        return stack_samples(good)
    except Exception as error:
        is_usage = isinstance(error, UsageError)
        text = "while reading a batch:\n" + traceback.format_exc()
        if is_usage:
            text = str(error) or repr(error)
        return np.frombuffer(text.encode(), np.uint8), np.array([is_usage])


def raise_failure(arrays: Sequence["Tensor"]) -> None:
    """Raise the error that `batch_or_failure` caught, if these are its two arrays.

    Raises:
        UsageError: a sample or the batch could not be used.
        RuntimeError: any other error, with its traceback.
    """
    if len(arrays) == 2:
        text, is_usage = arrays
        message = text.numpy().tobytes().decode()
        raise UsageError(message) if bool(is_usage) else RuntimeError(message)


@dataclass(frozen=True)
class Batch:
    """One batch of a step.

    Attributes:
        images: `(N, 3, H, W)` float32.
        labels: `(N, H, W)` int64.
        names: of the samples, for messages.
        edges: int64 maps of the labels' edges; None where the data set makes none.
    """

    images: "Tensor"
    labels: "Tensor"
    names: Sequence[str]
    edges: "Tensor | None" = None
