r"""Every shipped network through export: each graph against its network, with oneDNN off and on.

    python benchmarks/export_networks.py --save_dir output/export_networks

For another release of Paddle, run it in an environment with that. Each network that the shipped
configurations have is built once, with random weights and the batch statistics of drawn scenes,
and exported in a process of its own by the self-check of `export`. Prints a Markdown table; the
status is 1 where a graph fails.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common import flags
from paddleseg_ext.common.errors import CheckFailed, nearest_name, run_command
from paddleseg_ext.common.files import write_text
from paddleseg_ext.common.log import log
from paddleseg_ext.common.shipped_configs import shipped_configs

ENGINES = ("oneDNN off", "oneDNN on")
FINDING = (
    r"self-check: Paddle Inference, {}, input \S+ (\d+) pixels differ, largest difference (\S+)"
)
FAILURE = r"self-check: Paddle Inference, {} is recorded as failed: (.+)"
SCENE_WH = (256, 128)
TRAINING_STEPS = 5  # forward passes that make batch statistics
MOST_SECONDS = 900


def main() -> int:
    """Export each network and print the table; 1 where one fails."""
    parser = flags.make_parser(__doc__ or "")
    parser.add_argument("--save_dir", type=Path, default=Path("output/export_networks"))
    parser.add_argument("--networks", nargs="+", metavar="CONFIG", help="all where missing")
    parser.add_argument("--only", metavar="CONFIG", help="one, in this process")
    arguments = parser.parse_args()
    if arguments.only:
        export_one(arguments.only, arguments.save_dir)
        return 0
    known = distinct_networks()
    for name in arguments.networks or []:
        if name not in known:
            parser.error(f"no network has the name '{name}'{nearest_name(name, known)}")
    lines = [f"| network | {' | '.join(ENGINES)} |", "|---|---|---|"]
    failed = 0
    for name in arguments.networks or known:
        log(f"== {name}")
        cells, passed = measure(name, arguments.save_dir / name)
        failed += not passed
        lines.append(f"| {name} | {' | '.join(cells)} |")
        write_text(arguments.save_dir / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    return int(failed > 0)


def distinct_networks() -> list[str]:
    """The first configuration of each network that is shipped."""
    from paddleseg_ext.config import load_config

    found: dict[str, str] = {}
    for name, path in shipped_configs().items():
        model = _without_weights(load_config(path).model)
        found.setdefault(json.dumps(model, sort_keys=True), name)
    return list(found.values())


def _without_weights(value: Any) -> Any:
    """A `model:` section without the files that its weights begin from."""
    if not isinstance(value, dict):
        return value
    return {key: _without_weights(part) for key, part in value.items() if key != "pretrained"}


def measure(name: str, folder: Path) -> tuple[list[str], bool]:
    """Export in a process of its own; returns a cell per engine, and whether both passed."""
    command = [sys.executable, __file__, "--only", name, "--save_dir", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        return [f"more than {MOST_SECONDS} s"] * 2, False
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    cells = [_cell(engine, done.stdout) for engine in ENGINES]
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        place = cells.index("") if "" in cells else -1
        cells[place] = f"status {done.returncode}: {last}"
    return [cell or "not run" for cell in cells], all("pixels" in cell for cell in cells)


def _cell(engine: str, output: str) -> str:
    """How a runtime did by the messages of an export; nothing where they do not say it."""
    failure = re.search(FAILURE.format(engine), output)
    if failure:
        return f"fails: {_short(failure[1])}"
    found = re.findall(FINDING.format(engine), output)
    if len(found) < 2:  # sizes
        return ""
    pixels, difference = sum(int(n) for n, _ in found), max(float(d) for _, d in found)
    return f"{pixels} pixels, {difference:.1e}"


def _short(reason: str) -> str:
    """A reason without the bundle's place and the places in Paddle's source."""
    return re.sub(r"^.*model\.json: ", "", " ".join(reason.split())).partition(" (at ")[0]


def export_one(name: str, folder: Path) -> None:
    """Build a network with random weights, and export it.

    Raises:
        CheckFailed: a graph does not give the network's result, or cannot be run.
    """
    import paddle

    from paddleseg_ext.checkpoints.manifest import CheckpointManifest
    from paddleseg_ext.checkpoints.store import save_weights
    from paddleseg_ext.config import load_config
    from paddleseg_ext.data.build import validation_data
    from paddleseg_ext.export import tracing
    from paddleseg_ext.export.exporter import export
    from paddleseg_ext.export.options import ExportOptions
    from paddleseg_ext.images.scenes import draw_scene
    from paddleseg_ext.inference.preprocess import Preprocess
    from paddleseg_ext.models.build import build_model

    config = load_config(shipped_configs()[name])
    paddle.seed(0)
    model = build_model(config, validation_data(config).class_table.num_classes)
    preprocess = Preprocess([{"type": "Normalize"}])
    images = np.stack([preprocess(draw_scene(seed, SCENE_WH)[0])[0] for seed in range(2)])
    model.train()
    with paddle.no_grad():
        for _ in range(TRAINING_STEPS):
            model(paddle.to_tensor(images))
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / "model.pdparams", CheckpointManifest(iteration=0))
    tracing.BROKEN_OPERATORS.clear()  # what is refused by name is what this measures
    try:
        export(config, folder / "model.pdparams", ExportOptions(folder / "bundle", onnx=False))
    except Exception as error:  # of Paddle's engine, too: the last line is the table's
        raise CheckFailed(_short(str(error))) from None


if __name__ == "__main__":
    run_command(main)
