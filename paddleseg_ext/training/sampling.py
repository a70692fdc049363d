"""Which samples an iteration sees, and with which random numbers they are augmented.

Both follow from (seed, iteration) alone: the order of an epoch from (seed, epoch), the
augmentation of a sample from (seed, epoch, sample). So a resumed run goes on exactly where it was,
and neither workers nor processes change what is seen.
"""

import random
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paddleseg_ext.common.errors import UsageError

if TYPE_CHECKING:
    from paddle import Tensor


class SampleKey(NamedTuple):
    """A sample of an epoch."""

    epoch: int
    sample: int


def require_one_batch(
    num_samples: int, batch_size: int, world_size: int = 1, accumulate: int = 1
) -> None:
    """Refuse a data set that does not fill a global batch.

    Raises:
        UsageError: fewer samples than that.
    """
    needed = batch_size * world_size * accumulate
    if num_samples < needed:
        raise UsageError(
            f"the training set has {num_samples} samples, fewer than one batch of {needed} "
            f"(batch_size {batch_size}, {world_size} processes, accumulate {accumulate})"
        )


# Image, label and number.
Sample = tuple[np.ndarray, np.ndarray, int]


class EpochBatches:
    """The batches of iterations `first` to `last` (excluded) of one process.

    Every epoch is a permutation of all samples, cut into global batches; what does not fill one
    is left out of that epoch. A global batch is split evenly between the processes, and a
    process's share into the `accumulate` batches of an iteration. So an iteration sees the same
    samples, however its global batch is made up.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        first: int,
        last: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
    ):
        """
        Args:
            num_samples: the size of the data set.
            batch_size: samples of a batch.
            seed: of the order.
            first: the first iteration, counted from 0.
            last: where to stop.
            rank: this process.
            world_size: how many there are.
            accumulate: batches a process and iteration.

        Raises:
            UsageError: fewer samples than a global batch.
        """
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._seed = seed
        self._first, self._last = first, last
        self._rank = rank
        self._accumulate = accumulate
        self._global_batch_size = batch_size * world_size * accumulate
        require_one_batch(num_samples, batch_size, world_size, accumulate)

    @property
    def batches_per_epoch(self) -> int:
        """Iterations an epoch."""
        return self._num_samples // self._global_batch_size

    def __len__(self) -> int:
        """The number of batches to come."""
        return (self._last - self._first) * self._accumulate

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """The keys of one batch after the other."""
        order: np.ndarray = np.empty(0)
        shuffled_epoch = -1
        for iteration in range(self._first, self._last):
            epoch, batch = divmod(iteration, self.batches_per_epoch)
            if epoch != shuffled_epoch:
                generator = np.random.default_rng([self._seed, epoch])
                order, shuffled_epoch = generator.permutation(self._num_samples), epoch
            share = self._batch_size * self._accumulate
            start = batch * self._global_batch_size + self._rank * share
            for begin in range(start, start + share, self._batch_size):
                yield [SampleKey(epoch, int(i)) for i in order[begin : begin + self._batch_size]]


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

        What fails is returned and not raised; `batch_or_failure` has the reason.
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
        label = np.squeeze(sample["label"]).astype(np.int64)
        return sample["img"].astype(np.float32), label, key.sample


def stack_samples(samples: list[Sample]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One batch: `(N, 3, H, W)` float32, `(N, H, W)` int64 and the samples' `(N,)` numbers.

    Raises:
        UsageError: samples of different sizes; a crop is missing in the yml.
    """
    shapes = {image.shape for image, _, _ in samples}
    if len(shapes) > 1:
        raise UsageError(
            f"train_dataset: samples of one batch differ in size ({sorted(shapes)}): end its "
            "transforms with one that fixes the size, such as RandomPaddingCrop"
        )
    images, labels, numbers = zip(*samples, strict=True)
    return np.stack(images), np.stack(labels), np.array(numbers, np.int64)


def batch_or_failure(samples: list[Sample | Exception]) -> tuple[np.ndarray, ...]:
    """The arrays of `stack_samples`; where anything failed, the two that `raise_failure` reads.

    An exception would not do: Paddle's reading thread ends with it and the run waits for ever, and
    from a reading process it comes as a page of text.
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
    """Raise what `batch_or_failure` caught, if these are its two arrays.

    Raises:
        UsageError: a sample or the batch could not be used.
        RuntimeError: anything else, with the traceback of where it happened.
    """
    if len(arrays) == 2:
        text, is_usage = arrays
        message = text.numpy().tobytes().decode()
        raise UsageError(message) if bool(is_usage) else RuntimeError(message)


@dataclass(frozen=True)
class Batch:
    """What a step learns from.

    Attributes:
        images: `(N, 3, H, W)` float32.
        labels: `(N, H, W)` int64.
        numbers: `(N,)`, which samples of the data set they are.
    """

    images: "Tensor"
    labels: "Tensor"
    numbers: "Tensor"

    def names(self, sample_names: Sequence[str]) -> list[str]:
        """The images' names, out of those of all samples."""
        return [sample_names[int(number)] for number in self.numbers]
