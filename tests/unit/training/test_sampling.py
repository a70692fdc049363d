"""Which samples an iteration sees, for any split into runs and processes."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.distributed.world import World
from paddleseg_ext.training.sampling import (
    EpochBatches,
    GlobalBatch,
    SampleKey,
    SeededSamples,
    stack_samples,
)


@given(
    samples=st.integers(4, 40),
    batch=st.integers(1, 4),
    seed=st.integers(0, 5),
    cut=st.integers(0, 30),
)
def test_a_resumed_run_sees_what_the_uninterrupted_one_saw(samples, batch, seed, cut) -> None:
    whole = list(EpochBatches(samples, GlobalBatch(batch), seed, 0, 30))
    parts = [
        *EpochBatches(samples, GlobalBatch(batch), seed, 0, cut),
        *EpochBatches(samples, GlobalBatch(batch), seed, cut, 30),
    ]
    assert whole == parts
    assert all(len(b) == batch for b in whole)


@given(world=st.sampled_from([1, 2, 4]), seed=st.integers(0, 5))
def test_processes_share_the_same_global_batches(world: int, seed: int) -> None:
    alone = [set(b) for b in EpochBatches(23, GlobalBatch(4), seed, 0, 20)]
    parts = [GlobalBatch(4 // world, world=World(rank, world)) for rank in range(world)]
    ranks = [list(EpochBatches(23, part, seed, 0, 20)) for part in parts]
    together = [{k for batch in parts for k in batch} for parts in zip(*ranks, strict=True)]
    assert together == alone


@given(world=st.sampled_from([1, 2]), accumulate=st.sampled_from([1, 2, 3]))
def test_accumulated_batches_are_the_big_batch_in_order(world: int, accumulate: int) -> None:
    for rank in range(world):
        here = World(rank, world)
        batches = EpochBatches(25, GlobalBatch(2, accumulate, here), 3, 1, 9)
        small = list(batches)
        big = list(EpochBatches(25, GlobalBatch(2 * accumulate, world=here), 3, 1, 9))
        assert len(small) == len(batches)
        groups = [small[i : i + accumulate] for i in range(0, len(small), accumulate)]
        joined = [[key for batch in group for key in batch] for group in groups]
        assert joined == big


@pytest.mark.parametrize("shape", [(1, 64), (64, 1), (1, 1)])
def test_a_label_of_one_row_or_column_keeps_its_shape(shape: tuple[int, int]) -> None:
    image = np.zeros((3, *shape), np.float32)
    for label in (np.zeros(shape, np.uint8), np.zeros((1, *shape), np.uint8)):
        read = SeededSamples([{"img": image, "label": label}], 0)[SampleKey(0, 0)]
        assert read[1].shape == shape


@given(samples=st.integers(2, 30), batch=st.integers(1, 2), seed=st.integers(0, 5))
def test_an_epoch_repeats_no_sample(samples: int, batch: int, seed: int) -> None:
    batches = EpochBatches(samples, GlobalBatch(batch), seed, 0, 3 * (samples // batch))
    seen = [key for b in batches for key in b]
    assert len(set(seen)) == len(seen)
    assert {key.epoch for key in seen} == {0, 1, 2}


def test_a_set_smaller_than_a_batch_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match="3 samples, fewer than one batch of 4"):
        EpochBatches(3, GlobalBatch(2, world=World(0, 2)), 0, 0, 1)


class RandomSamples:
    """Draws from both global generators, as transforms do."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict:
        value = index + random.random() + np.random.random()
        return {"img": np.full((3, 2, 2), value), "label": np.zeros((1, 2, 2), np.uint8)}


def test_augmentation_follows_from_epoch_and_sample() -> None:
    samples = SeededSamples(RandomSamples(), seed=1)
    first = samples[SampleKey(0, 3)][0]
    samples[SampleKey(0, 4)]
    np.testing.assert_array_equal(samples[SampleKey(0, 3)][0], first)
    assert (samples[SampleKey(1, 3)][0] != first).all()
    assert (SeededSamples(RandomSamples(), seed=2)[SampleKey(0, 3)][0] != first).all()
    assert samples[SampleKey(0, 3)][1].shape == (2, 2)


def test_samples_of_different_sizes_are_one_clear_line() -> None:
    one = (np.zeros((3, 4, 4)), np.zeros((4, 4)), 0)
    other = (np.zeros((3, 4, 5)), np.zeros((4, 5)), 1)
    with pytest.raises(UsageError, match="differ in size"):
        stack_samples([one, other])
