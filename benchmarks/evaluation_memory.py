"""What evaluation holds in memory above the network alone, in tensors of logits.

    python benchmarks/evaluation_memory.py --image_list LIST [--protocols ss,slide,ssc]

For each protocol two processes run BiSeNetV1 (random weights, 19 classes) in dynamic graph with
the same modules imported: one evaluates the first four images of the list, the other runs the
network alone, twice, on the largest tensor that the first one gave it, and keeps its output. The
difference of their peaks (VmHWM of the kernel) is stated in tensors of logits, (19, H, W) float32
of the image. Protocols that look more than once hold a sum at full size beside a network that
sees less at a time. The status is 1 where a protocol is above its limit (`ALLOWED`).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import CheckFailed, run_command

NUM_CLASSES = 19
NORMALIZE = [{"type": "Normalize"}]
ALLOWED = {"ss": 1.0, "scale_0.5": 3.0, "slide": 3.0}
OPTIONS: dict[str, dict[str, Any]] = {"slide": {"crop_size": (1024, 512), "stride": (768, 384)}}


def peak_bytes() -> int:
    """The largest resident size this process ever had."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def measure(image_list: str, protocol: str, alone: list[int] | None) -> dict[str, Any]:
    """Peak of this process after an evaluation, or after the network `alone` on such a tensor."""
    import numpy as np

    from paddleseg_ext.evaluation.eager import EagerEngine
    from paddleseg_ext.evaluation.evaluator import EvaluationOptions, evaluate
    from paddleseg_ext.images.labels import CITYSCAPES
    from paddleseg_ext.images.reading import read_image
    from paddleseg_ext.images.samples import read_sample_list
    from paddleseg_ext.inference.postprocess import Postprocess
    from paddleseg_ext.inference.predictor import Predictor
    from paddleseg_ext.inference.preprocess import Preprocess
    from paddleseg_ext.models.backbones.resnet import ResNet18
    from paddleseg_ext.models.bisenetv1 import BiSeNetV1
    from paddleseg_ext.scoring.protocols import make_protocol

    model = BiSeNetV1(num_classes=NUM_CLASSES, backbone=ResNet18())
    model.eval()
    largest: tuple[int, ...] = (0,)

    class Watched(EagerEngine):
        def run(self, batch: np.ndarray) -> np.ndarray:
            nonlocal largest
            largest = max(largest, batch.shape, key=np.prod)
            return super().run(batch)

    if alone is not None:
        tensor = np.zeros(alone, np.float32)
        kept = [EagerEngine(model).run(tensor) for _ in range(2)][-1]
        return {"peak": peak_bytes(), "output": list(kept.shape)}
    samples = read_sample_list(image_list)[:4]
    chosen = make_protocol(protocol, **OPTIONS.get(protocol, {}))
    predictor = Predictor(Watched(model), Preprocess(NORMALIZE), Postprocess(), CITYSCAPES)
    options = EvaluationOptions(protocol=chosen, show_progress=False, print_scores=False)
    evaluate(predictor, samples, options)
    peak = peak_bytes()
    height, width = read_image(samples[0].image).shape[:2]
    return {
        "peak": peak,
        "largest": list(largest),
        "logits_bytes": NUM_CLASSES * height * width * 4,
    }


def in_a_process(image_list: str, protocol: str, alone: list[int] | None = None) -> dict[str, Any]:
    """`measure` where nothing else ever ran."""
    command = [sys.executable, __file__, "--image_list", image_list, "--protocols", protocol]
    command += ["--measure", json.dumps(alone)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise CheckFailed(f"{protocol}: the measured process failed")
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    """Measure each protocol and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image_list", required=True, help="`image label` lines")
    parser.add_argument("--protocols", default=",".join(ALLOWED))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure is not None:
        result = measure(args.image_list, args.protocols, json.loads(args.measure))
        print(json.dumps(result))
        return
    failed = []
    for protocol in args.protocols.split(","):
        scored = in_a_process(args.image_list, protocol)
        alone = in_a_process(args.image_list, protocol, scored["largest"])
        above = (scored["peak"] - alone["peak"]) / scored["logits_bytes"]
        if above > ALLOWED.get(protocol, 3.0):
            failed.append(protocol)
        print(
            f"{protocol}: {scored['peak'] >> 20} MiB, the network alone on {scored['largest']} "
            f"{alone['peak'] >> 20} MiB: {above:.2f} tensors of logits "
            f"({scored['logits_bytes'] >> 20} MiB) above it",
            flush=True,
        )
    if failed:
        raise CheckFailed(f"more memory above the network than allowed: {', '.join(failed)}")


if __name__ == "__main__":
    run_command(main)
