"""The C++ program beside `infer.py --backend openvino`: cold start, memory and throughput.

Both run in turn, one thread, on the same images. What is counted is processor time, which other
work on the machine changes least, and the largest resident memory.

  python benchmarks/cpp.py --config bundle/deploy.yaml --images DIR --rounds 5
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import MISSING, dataclass
from pathlib import Path

from paddleseg_ext.common.errors import CheckFailed, run_command
from paddleseg_ext.common.flags import positive_int
from paddleseg_ext.common.options import option, parse_options
from paddleseg_ext.images.samples import collect_samples
from paddleseg_ext.parity.producers import find_program

KIB = 1024


@dataclass(frozen=True)
class Options:
    """The runs that are measured."""

    config: str = option(MISSING, "deploy.yaml of a bundle with an ONNX graph", metavar="YAML")
    images: str = option(MISSING, "a folder or list of images", metavar="PATH")
    repeats: int = option(
        10, "times that each image is run in a throughput run", parse=positive_int
    )
    rounds: int = option(5, "of each program", parse=positive_int)


@dataclass(frozen=True)
class Cost:
    """Time and memory of a process."""

    processor_s: float
    resident_mib: float


def cost_of(command: list[str]) -> Cost:
    """The cost of a process and its children.

    Raises:
        CheckFailed: it ended with another status than 0.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise CheckFailed(f"{command[0]} ended with status {os.waitstatus_to_exitcode(status)}")
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / KIB)


def main(argv: list[str] | None = None) -> None:
    """Print a table."""
    options = parse_options(Options, __doc__ or "", argv)
    images = [str(sample.image.resolve()) for sample in collect_samples(options.images)]
    programs = {
        "C++": [str(find_program())],
        "Python": [sys.executable, "-m", "paddleseg_ext", "infer", "--backend", "openvino"],
    }
    few: dict[str, list[Cost]] = {name: [] for name in programs}
    many: dict[str, list[Cost]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory(prefix="cpp-") as folder:
        one, all_of_them = Path(folder) / "one", Path(folder) / "all"
        one.mkdir()
        all_of_them.mkdir()
        shutil.copyfile(images[0], one / f"0{Path(images[0]).suffix}")
        for number, image in enumerate(images * options.repeats):
            shutil.copyfile(image, all_of_them / f"{number}{Path(image).suffix}")
        for _ in range(options.rounds):
            for found, inputs in ((few, one), (many, all_of_them)):
                for name, start in programs.items():
                    flags = ["--config", options.config, "--image_path", str(inputs)]
                    flags += ["--save_dir", str(Path(folder) / "out"), "--cpu_threads", "1"]
                    found[name].append(cost_of([*start, *flags]))
    count = len(images) * options.repeats
    print("| | one image: processor time | an image more | largest memory |\n|---|---|---|---|")
    for name in programs:
        start = statistics.median(cost.processor_s for cost in few[name])
        whole = statistics.median(cost.processor_s for cost in many[name])
        memory = statistics.median(cost.resident_mib for cost in many[name])
        more_ms = (whole - start) / max(1, count - 1) * 1000
        print(f"| {name} | {start:.2f} s | {more_ms:.0f} ms | {memory:.0f} MiB |")


if __name__ == "__main__":
    run_command(main)
