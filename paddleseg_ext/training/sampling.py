"""Which samples an iteration sees, and with which random numbers they are augmented.

Both follow from (seed, iteration) alone: the order of an epoch from (seed, epoch), the
augmentation of a sample from (seed, epoch, sample). So a resumed run goes on exactly where it was,
and neither workers nor processes change what is seen.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from paddleseg_ext.common.errors import UsageError


class SampleKey(NamedTuple):
    """A sample of an epoch."""

    epoch: int
    sample: int


class EpochBatches:
    """The batches of iterations `first` to `last` (excluded) of one process.

    Every epoch is a permutation of all samples, cut into global batches; what does not fill one
    is left out of that epoch. A global batch is split evenly between the processes.
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
    ):
        """
        Args:
            num_samples: the size of the data set.
            batch_size: samples a process and iteration.
            seed: of the order.
            first: the first iteration, counted from 0.
            last: where to stop.
            rank: this process.
            world_size: how many there are.

        Raises:
            UsageError: fewer samples than a global batch.
        """
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._seed = seed
        self._first, self._last = first, last
        self._rank = rank
        self._global_batch_size = batch_size * world_size
        if num_samples < self._global_batch_size:
            raise UsageError(
                f"the training set has {num_samples} samples, fewer than one batch of "
                f"{self._global_batch_size} (batch_size {batch_size}, {world_size} processes)"
            )

    @property
    def batches_per_epoch(self) -> int:
        """Iterations an epoch."""
        return self._num_samples // self._global_batch_size

    def __len__(self) -> int:
        """The number of batches to come."""
        return self._last - self._first

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """The keys of one batch after the other."""
        order: np.ndarray = np.empty(0)
        shuffled_epoch = -1
        for iteration in range(self._first, self._last):
            epoch, batch = divmod(iteration, self.batches_per_epoch)
            if epoch != shuffled_epoch:
                generator = np.random.default_rng([self._seed, epoch])
                order, shuffled_epoch = generator.permutation(self._num_samples), epoch
            start = batch * self._global_batch_size + self._rank * self._batch_size
            yield [SampleKey(epoch, int(i)) for i in order[start : start + self._batch_size]]


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

    def __getitem__(self, key: SampleKey) -> tuple[np.ndarray, np.ndarray]:
        """`(3, H, W)` float32 image and `(H, W)` int64 label of the augmented sample."""
        state = np.random.SeedSequence([self._seed, key.epoch, key.sample]).generate_state(2)
        random.seed(int(state[0]))
        np.random.seed(int(state[1]))
        sample = self._dataset[key.sample]
        return sample["img"].astype(np.float32), np.squeeze(sample["label"]).astype(np.int64)


def stack_samples(samples: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """One batch: `(N, 3, H, W)` float32 and `(N, H, W)` int64.

    Raises:
        UsageError: samples of different sizes; a crop is missing in the yml.
    """
    shapes = {image.shape for image, _ in samples}
    if len(shapes) > 1:
        raise UsageError(
            f"train_dataset: samples of one batch differ in size ({sorted(shapes)}): end its "
            "transforms with one that fixes the size, such as RandomPaddingCrop"
        )
    images, labels = zip(*samples, strict=True)
    return np.stack(images), np.stack(labels)
