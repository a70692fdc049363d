r"""Measure bundles on runtimes side by side, in turns, on real images.

Every candidate (a bundle on a runtime) has a process of its own, and one runs at a time. Each round
takes one image through every candidate, so that a busy machine is fair to all. Per image it
measures decode, preprocess, copy in, run, copy out, postprocess and encode. p50, p90 and p99 are
those of the network (copy in, run, copy out) and the label map (postprocess). 'new size' is the
network's first run at an input size, for which some runtimes compile. The same rounds measure the
images per second at each batch size (network and label map, at the first image's size) and a
product of matrices, the machine's peak.

SAVE_DIR gets bench.csv, bench.json and, where the images have labels, speed_accuracy.png. A
candidate whose recorded parity failed is marked. One that runs otherwise than asked for, or whose
GPU was not waited for, is refused. Candidates that do not run here are named and left out.

  paddleseg-ext bench --config a/deploy.yaml b/deploy.yaml --data val.list \
      --backend paddle_onednn onnxruntime openvino_int8 --batch_sizes 1 4 --save_dir output/bench
"""

import argparse
from pathlib import Path

from paddleseg_ext.bench.run import BenchOptions, bench
from paddleseg_ext.common import flags
from paddleseg_ext.common.files import require_writable
from paddleseg_ext.common.machine import fix_thread_count, resolve_device
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.images.samples import collect_samples
from paddleseg_ext.images.video import open_video


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `bench`."""
    parser = flags.make_parser(__doc__, "bench")
    parser.add_argument(
        "--config", required=True, nargs="+", type=Path, metavar="YAML", help="bundles"
    )
    parser.add_argument(
        "--data", required=True, metavar="PATH", help="images, with labels for mIoU; as for infer"
    )
    add_options(parser, BenchOptions)
    flags.add_device_flag(parser)
    parser.add_argument("--cpu_threads", type=flags.positive_int, help="default: every core")
    parser.add_argument("--save_dir", default="output/bench", help="for the results")
    return parser


def main(argv: list[str]) -> None:
    """Check, then measure."""
    arguments = build_parser().parse_args(argv)
    device = resolve_device(arguments.device)
    threads = fix_thread_count(arguments.cpu_threads)
    samples = collect_samples(arguments.data)
    if arguments.video is not None:
        open_video(arguments.video).capture.release()  # before a process is started
    save_dir = require_writable(arguments.save_dir, "--save_dir")
    options = read_options(BenchOptions, arguments, device=device, threads=threads)
    bench(arguments.config, samples, options, save_dir)
