"""`train.py` in double precision: what differs then is the arithmetic, not the rounding.

python tests/integration/train_in_double.py --config ...
"""

import runpy
from pathlib import Path

import numpy as np
import paddle

from paddleseg_ext.evaluation.eager import EagerEngine
from paddleseg_ext.training import sampling, validation
from paddleseg_ext.training.sampling import stack_samples


def stack_in_double(samples: list) -> list[np.ndarray]:
    images, *others = stack_samples(samples)
    return [images.astype(np.float64), *others]


class DoubleEngine(EagerEngine):
    def run(self, batch: np.ndarray) -> np.ndarray:
        return super().run(batch.astype(np.float64)).astype(np.float32)


if __name__ == "__main__":
    paddle.set_default_dtype("float64")
    sampling.stack_samples = stack_in_double
    validation.EagerEngine = DoubleEngine
    runpy.run_path(str(Path(__file__).resolve().parents[2] / "train.py"), run_name="__main__")
