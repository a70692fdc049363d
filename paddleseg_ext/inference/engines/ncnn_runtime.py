"""ncnn on CPU: the bundle's `model.ncnn.param` and `.bin`, of one size.

This module is imported when the engine is opened: the base installation has no such package.

By itself ncnn stores weights and features in 16 bits where the processor can; every such option is
set, `bf16` only where that is asked for. ncnn lists no kernels, but hands out what its layers leave
behind: of so many bits each is what it was computed with, and `describe` counts that.
"""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import ncnn
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.files import require_file
from paddleseg_ext.common.machine import available_cores
from paddleseg_ext.common.native_output import without_lines
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import GraphEngine, RunTimes
from paddleseg_ext.inference.runtime import RuntimeReport

IN_FLOAT = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_vulkan_compute")
FLOAT = "float32"  # its only input
AS_IT_IS = 1  # of `extract`: no conversion to float32
# Layers whose precision is that of the arithmetic; the others move or reshape.
COMPUTES = ("Convolution", "ConvolutionDepthWise", "InnerProduct", "Gemm", "MatMul", "Pooling")


class Ncnn(GraphEngine):
    """A graph of ncnn's; its runs share the weights. A batch is run image by image."""

    title = "ncnn"

    def _load(self, bundle: Bundle) -> None:
        self.file = bundle.graph_file("ncnn")
        if self.input_dtype != FLOAT:  # ncnn would read four bytes for each one
            raise UsageError(
                f"{bundle.deploy_file}: Deploy.input_dtype: {FLOAT} is expected where ncnn runs, "
                f"got {self.input_dtype}; export the bundle without --fold_normalize"
            )
        if not all(side and side > 0 for side in (self.input_shape or [])[1:] or [None]):
            raise UsageError(  # ncnn computes another size without a word, and wrongly
                f"{bundle.deploy_file}: Deploy.input_shape: the size of {self.file.name} is "
                f"expected, got {self.input_shape}; export the bundle with --input_shape again"
            )
        if self.spec.precision == "bf16" and (layer := _wrong_in_bf16(self.file)):
            raise UsageError(
                f"{self.file}: ncnn computes '{layer}' wrongly in bf16, a convolution in groups "
                "of several outputs: take ncnn or openvino_bf16"
            )
        self._share = max(1, (self.spec.threads or available_cores()) // self.streams)
        self._net = ncnn.Net()
        self._net.opt.num_threads = self._share
        self._net.opt.use_bf16_storage = self.spec.precision == "bf16"
        for name in IN_FLOAT:
            setattr(self._net.opt, name, False)
        weights = require_file(self.file.with_suffix(".bin"), f"{bundle.deploy_file}: ncnn")
        for load, file in (
            (self._net.load_param, self.file),
            (self._net.load_model, weights),
        ):
            with without_lines(("",), "stderr") as printed:
                failed = load(str(file))
            if failed:
                reason = f": {printed[0]}" if printed else ""
                raise self.cannot_load(ValueError(f"{file.name} is no file of this ncnn's{reason}"))
        (self._input,), (self._output,) = self._net.input_names(), self._net.output_names()
        self._bits: Counter[str] = Counter()

    def _compute(self, tensor: NDArray) -> tuple[NDArray, RunTimes]:
        started = time.perf_counter()
        outputs = [self._run(image) for image in tensor]
        return np.stack(outputs), RunTimes(0.0, time.perf_counter() - started, synchronised=True)

    def _run(self, image: NDArray) -> NDArray:
        """The output of one image (C, H, W), copied from the memory of the run."""
        extractor = self._net.create_extractor()
        code = extractor.input(self._input, ncnn.Mat(image))
        status, output = extractor.extract(self._output)
        if code or status:
            raise RuntimeError(f"error {code or status}")
        array = np.array(output)
        # Of an output that was reshaped last, the axis of the batch is there.
        return array.reshape(array.shape[-3:]) if array.shape[:-3] == (1,) else array

    def describe(self) -> RuntimeReport:
        """See `Engine.describe`; the layers are the graph's, the precision their results'."""
        layers = self._net.layers()
        if not self._bits:
            self._bits = self._bits_of(layers)
        kinds = {"32": "fp32", "16": "bf16" if self._net.opt.use_bf16_storage else "fp16"}
        precisions = {kinds.get(bits, bits): count for bits, count in self._bits.items()}
        return RuntimeReport(
            name="ncnn",
            version=ncnn.__version__,
            precision=max(precisions, key=lambda kind: precisions[kind], default="unknown"),
            cpu_threads=self._share * self.streams,
            streams=self.streams,
            kernels=dict(Counter(layer.type for layer in layers)),
            kernel_precisions=precisions,
            details={"ir_optim": True},
        )

    def _bits_of(self, layers: list[Any]) -> Counter[str]:
        """Bits of a number -> computing layers that leave such, in one run."""
        names = [blob.name for blob in self._net.blobs()]
        extractor = self._net.create_extractor()
        extractor.set_light_mode(False)
        extractor.input(self._input, ncnn.Mat(self.probe()[0]))
        found: Counter[str] = Counter()
        for layer in layers:
            if layer.type in COMPUTES:
                _, left = extractor.extract(names[layer.tops[0]], AS_IT_IS)
                found[str(left.elembits())] += 1
        return found


def _wrong_in_bf16(param_file: Path) -> str:
    """The first layer whose results in bf16 are no numbers of this network; empty where none is."""
    for line in param_file.read_text(encoding="utf-8", errors="replace").splitlines():
        kind, _, rest = line.partition(" ")
        values = dict(word.split("=", 1) for word in rest.split() if "=" in word)
        if kind == "ConvolutionDepthWise" and values.get("0") != values.get("7"):  # outputs, groups
            return rest.split()[0]
    return ""
