r"""Find the fastest runtime that predicts a bundle's label maps on this machine, and record it.

Every runtime that is installed and for which the bundle has a graph predicts the images of the
list, in fp32, where the CPU has it in bf16, and where the bundle has a graph of it in int8. They
take turns on each image, so that a busy machine is fair to all. Their label maps are compared with
those of Paddle Inference without oneDNN, the reference: identical, near-tie, within parity's budget
of bf16 or int8, or failed. The verdicts and speeds are written into the bundle's deploy.yaml
(Manifest.verified), where `infer --backend auto` reads them. Where the list has images of several
sizes, the speed includes the cost of each new size, as often as the list has one. Two runtimes
whose rounds leave open which one is faster are equal, and what was taken before stays. The last
line says which one to take. The exit status is 1 if a runtime failed in fp32.

  paddleseg-ext tune --config output/inference_model/deploy.yaml --data val.list
"""

import argparse

from paddleseg_ext.bench.tune import tune
from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.common.files import require_writable
from paddleseg_ext.common.machine import fix_thread_count
from paddleseg_ext.evaluation.trials import REFERENCE
from paddleseg_ext.images.samples import collect_samples
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.engines.table import DEPLOYED


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `tune`."""
    parser = flags.make_parser(__doc__, "tune")
    parser.add_argument("--config", required=True, metavar="YAML", help="deploy.yaml of the bundle")
    parser.add_argument(
        "--data", required=True, metavar="PATH", help="images: a list, a folder, or one image"
    )
    parser.add_argument(
        "--num_images", type=flags.positive_int, default=12, help="so many, evenly from the list"
    )
    parser.add_argument("--cpu_threads", type=flags.positive_int, help="default: every core")
    return parser


def main(argv: list[str]) -> None:
    """Compare every runtime and record what was found.

    Raises:
        CheckFailed: a runtime predicted other label maps than the reference in fp32.
    """
    arguments = build_parser().parse_args(argv)
    bundle, listed = read_bundle(arguments.config), collect_samples(arguments.data)
    require_writable(bundle.deploy_file.parent, "--config")
    threads = fix_thread_count(arguments.cpu_threads)
    records = tune(bundle, listed, arguments.num_images, threads)
    failed = [name for name in DEPLOYED if name in records and not records[name].passed]
    if failed:
        raise CheckFailed(f"another answer than that of {REFERENCE}: {', '.join(failed)}")
