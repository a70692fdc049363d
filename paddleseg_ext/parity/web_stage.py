"""The stage `web`: the scripts of `export --web`, under node instead of in a browser.

Node has no decoder but the scripts' own of PNG, which is what producers get. The first image's
input tensor is compared with the bundle's, so that equal label maps are no luck.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import write_json
from paddleseg_ext.common.log import log
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.evaluation.protocols import scaled_bytes
from paddleseg_ext.images.functional import resize_logits
from paddleseg_ext.images.reading import read_image, read_label
from paddleseg_ext.inference.outputs import LABEL_MAPS
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.inference.web.folder import (
    check_protocol,
    check_web,
    write_model,
    write_node_scripts,
)
from paddleseg_ext.inference.web.runtime_files import NODE_FILES, require_archive, unpack
from paddleseg_ext.parity.compare import Comparison
from paddleseg_ext.parity.reference import total_counts

ENGINE = "onnxruntime_web"
FLAG = "--stages web"
OLDEST_NODE = 18  # with the streams that unpack PNG
NEAR = 1e-5  # of the largest value: how far an input tensor may be from the bundle's


def require_node() -> str:
    """The program `node`.

    Raises:
        UsageError: it is not installed, or too old.
    """
    node = shutil.which("node")
    if node is None:
        raise UsageError(f"{FLAG} runs in node, which is not installed (nodejs.org; apt: nodejs)")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)", said)
    if found is None or int(found[1]) < OLDEST_NODE:
        raise UsageError(f"{FLAG} needs node {OLDEST_NODE} or later, got {said.strip() or node}")
    return node


@dataclass(frozen=True)
class WebProgram:
    """The runner of a bundle's graphs under node.

    Attributes:
        node: the program.
        folder: of scripts, model and ONNX Runtime Web.
    """

    node: str
    folder: Path

    @classmethod
    def of(cls, comparison: Comparison, folder: Path) -> "WebProgram":
        """Write it for a bundle.

        Raises:
            UsageError: see `require_node`, `check_web`, `check_protocol` and `require_archive`.
        """
        node = require_node()
        check_web(comparison.bundle)
        unpack(require_archive(FLAG), folder / "runtime", NODE_FILES)
        write_node_scripts(folder)
        check_protocol(comparison.bundle, comparison.protocol)
        write_model(comparison.bundle, folder, comparison.protocol)
        return cls(node, folder)

    def run(self, comparison: Comparison, job: Mapping[str, Any], results: Path) -> str:
        """Run it over pixels, and leave `label_maps/STEM.png` and `inference.json`.

        Args:
            comparison: whose samples are the images, in their order.
            job: `precision`, `threads`, and `images`: a file and a stem each.
            results: the folder.

        Returns:
            Why it did not end; empty where it did.
        """
        comparison.bundle.onnx_file(job["precision"])
        file, tensor = results / "job.json", results / "tensor"
        own = {"folder": str(self.folder), "runtime": str(self.folder / "runtime")}
        write_json(file, {**job, **own, "save_dir": str(results), "tensor": str(tensor)})
        command = [self.node, str(self.folder / "node.mjs"), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines or not lines[-1].get("done"):
            reason = [line for line in done.stderr.splitlines() if "Error" in line]
            return (reason or [f"exit status {done.returncode}"])[0].strip()
        report = RuntimeReport(
            ENGINE,
            version=lines[-1]["version"],
            precision=job["precision"],
            cpu_threads=lines[-1]["threads"],
            details={"input_tensor": _compared(comparison, Path(job["images"][0][0]), tensor)},
        )
        failed = [f"{line['name']}: {line['error']}" for line in lines if "error" in line]
        for line in failed:
            log(f"[PARITY] web: {line}")
        counts = _counts(comparison, results, [stem for _, stem in job["images"]])
        evaluation = {} if counts is None else {"confusion_matrix": counts.tolist()}
        content = {"backend": report.to_dict(), "evaluation": evaluation, "fullest_batch": 1}
        write_json(results / "inference.json", content)
        return ""


def _compared(comparison: Comparison, image: Path, file: Path) -> str:
    """How an input tensor compares with the bundle's: `equal`, or by how much it is off."""
    bundle, protocol = comparison.bundle, comparison.protocol
    pixels = read_image(image)
    if protocol.bytes_first:
        pixels = scaled_bytes(pixels, protocol.scales[0])
    expected, geometry = bundle.preprocess()(pixels)
    if not protocol.is_plain and not protocol.bytes_first:
        height, width = protocol.scaled_hw(geometry.network_hw, protocol.scales[0])
        expected = resize_logits(expected, (width, height), protocol.align_corners)
    if not file.is_file():
        return "missing"
    got = np.frombuffer(file.read_bytes(), expected.dtype)
    if got.size != expected.size:
        return f"{got.size} values instead of {expected.size}"
    difference = np.abs(got.astype(np.float64) - expected.ravel()).max()
    if difference == 0:
        return "equal"
    share = difference / max(1.0, float(np.abs(expected).max()))
    return f"{'near' if share < NEAR else 'off'}: by {difference:.2g} at most"


def _counts(comparison: Comparison, results: Path, stems: list[str]) -> np.ndarray | None:
    """(C, C) counts over the images that have a label and a label map."""
    reference, pairs = comparison.reference, []
    scorer = Scorer(reference.table)
    for sample, stem in zip(reference.samples, stems, strict=True):
        path = results / LABEL_MAPS / f"{stem}.png"
        if sample.label is not None and path.is_file():
            pairs.append(scorer.count(sample, read_label(path)).pairs)
    return total_counts(pairs)
