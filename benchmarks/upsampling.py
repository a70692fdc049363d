"""From a network's output to a label map: interpolating where classes meet beside everywhere.

    python benchmarks/upsampling.py --config DEPLOY_YAML --image_path PATH [--rounds 5]

The bundle must be exported with `--upsample host`. Each image is predicted once for a network input
of 1024x512; then both ways make its label map at that size and at twice that size, taking turns,
one thread each. Printed is processor time, so that other programs change little, and the ratio of
the medians. The status is 1 where a pixel differs.
"""

import os
import time

os.environ["OMP_NUM_THREADS"] = "1"


import cv2
import numpy as np

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed, UsageError, run_command
from paddleseg_ext.common.progress import track
from paddleseg_ext.images.functional import resize_image
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.images.samples import collect_samples
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Geometry, Step
from paddleseg_ext.inference.runtime import RuntimeSpec

NETWORK_HW = (512, 1024)
ORIGINALS_HW = (NETWORK_HW, (1024, 2048))


def timed(way: Postprocess, output: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, float]:
    """The label map, and its milliseconds of processor time."""
    started = time.thread_time()
    result = way.label_map(output, geometry)
    return result, (time.thread_time() - started) * 1000


def geometry_of(original_hw: tuple[int, int]) -> Geometry:
    """The way back to an image of this size."""
    steps = () if original_hw == NETWORK_HW else (Step("resize", original_hw),)
    return Geometry(original_hw, NETWORK_HW, steps)


def main() -> int | None:
    """Predict, compare, print."""
    parser = flags.make_parser(__doc__ or "")
    parser.add_argument("--config", required=True, metavar="YAML", help="deploy.yaml of the bundle")
    parser.add_argument("--image_path", required=True, metavar="PATH", help="as for infer.py")
    parser.add_argument("--rounds", type=flags.positive_int, default=5, help="of all images")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = read_bundle(args.config)
    upsampling = bundle.postprocess().upsampling
    if upsampling == "graph":
        raise UsageError(f"{args.config}: export the network with --upsample host")
    dense = Postprocess(upsampling=upsampling, sparse=False)
    sparse = Postprocess(upsampling=upsampling, sparse=True)
    predictor = Predictor.of_bundle(bundle, RuntimeSpec("paddle_onednn", threads=1))
    outputs = []
    for sample in track(collect_samples(args.image_path), "network"):
        image = resize_image(read_image(sample.image), NETWORK_HW[::-1])
        prepared = predictor.prepare(image)
        ran = predictor.run(prepared.tensor[None], [prepared.geometry])
        outputs.append(ran.outputs[0])
    for original_hw in ORIGINALS_HW:
        geometry = geometry_of(original_hw)
        for _ in range(2):  # the second image of a size is the first that goes the sparse way
            sparse.label_map(outputs[0], geometry)
        times: dict[str, list[float]] = {"dense": [], "sparse": []}
        for output in outputs * args.rounds:
            expected, dense_ms = timed(dense, output, geometry)
            got, sparse_ms = timed(sparse, output, geometry)
            if not np.array_equal(expected, got):
                raise CheckFailed(f"{np.count_nonzero(expected != got)} pixels differ")
            times["dense"].append(dense_ms)
            times["sparse"].append(sparse_ms)
        medians = {name: float(np.median(values)) for name, values in times.items()}
        print(
            f"{original_hw[1]}x{original_hw[0]} from {outputs[0].shape}, {upsampling}: "
            f"dense {medians['dense']:.1f} ms, sparse {medians['sparse']:.1f} ms, "
            f"ratio {medians['dense'] / medians['sparse']:.1f}, 0 pixels differ"
        )
    return None


if __name__ == "__main__":
    run_command(main)
