"""Cost of scoring beside PaddleSeg's `calculate_area`, in one run on one machine.

    python benchmarks/scoring.py

19 classes at 2048x1024. PaddleSeg's function fails on Paddle 3 where it concatenates 0-D areas;
its `concat` is replaced by `stack`, everything else is its own. Prints the medians and their ratio;
the status is 1 where ours costs more than a twentieth.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

from paddleseg_ext.common.errors import CheckFailed, run_command
from paddleseg_ext.common.flags import make_parser
from paddleseg_ext.scoring.confusion import ConfusionMatrix

NUM_CLASSES = 19
SIZE_HW = (1024, 2048)
REPEATS = 9
ALLOWED_RATIO = 1 / 20
BLOCK = 16  # pixels; label maps come in regions, not as noise


def make_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a label with 10 % ignored pixels, both (H, W) uint8, in regions."""
    rng = np.random.default_rng(seed)
    blocks = (SIZE_HW[0] // BLOCK, SIZE_HW[1] // BLOCK)
    prediction, label = (
        rng.integers(0, NUM_CLASSES, blocks, dtype=np.uint8).repeat(BLOCK, 0).repeat(BLOCK, 1)
        for _ in range(2)
    )
    label[rng.random(SIZE_HW) < 0.1] = 255
    return prediction, label


def median_ms(run: Callable[[], object]) -> float:
    """Median time of `REPEATS` runs, after one that does not count."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def main() -> None:
    """Time both, check that they count alike, compare."""
    make_parser(__doc__ or "").parse_args()
    import paddle
    from paddleseg.utils import metrics

    prediction, label = make_maps(0)
    matrix = ConfusionMatrix(NUM_CLASSES)
    tensors = [paddle.to_tensor(array.astype(np.int64)[None]) for array in (prediction, label)]
    concat, paddle.concat = paddle.concat, paddle.stack
    try:
        theirs = metrics.calculate_area(*tensors, NUM_CLASSES)
        theirs_ms = median_ms(lambda: metrics.calculate_area(*tensors, NUM_CLASSES))
    finally:
        paddle.concat = concat
    counts = matrix.update(prediction, label)
    ours = (np.diagonal(counts), counts.sum(axis=0), counts.sum(axis=1))
    if not all(np.array_equal(a, b.numpy()) for a, b in zip(ours, theirs, strict=True)):
        raise CheckFailed("the two do not count alike")
    ours_ms = median_ms(lambda: matrix.update(prediction, label))
    ratio = ours_ms / theirs_ms
    print(f"PaddleSeg calculate_area: {theirs_ms:.1f} ms, ours: {ours_ms:.1f} ms per image")
    print(f"ratio: 1/{1 / ratio:.0f} (at most 1/{1 / ALLOWED_RATIO:.0f} is allowed)")
    if ratio > ALLOWED_RATIO:
        raise CheckFailed("scoring costs more than it may")


if __name__ == "__main__":
    run_command(main)
