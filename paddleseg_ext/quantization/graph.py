"""A float ONNX graph -> one with INT8 convolutions (QDQ form), by ONNX Runtime's quantiser.

Weights are signed and scaled per output channel, activations unsigned and scaled per tensor by the
range that calibration saw. ONNX Runtime and OpenVINO both run that form on INT8 kernels.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.inference.engines.onnx_providers import CPU, ERRORS_ONLY

QUANTIZED_OPERATORS = ("Conv",)


def import_quantizer() -> Any:
    """`onnxruntime.quantization`.

    Raises:
        UsageError: it, or `onnx` that it works with, is not installed.
    """
    with optional_imports("quantize", "onnx"):
        import onnx  # noqa: F401
        import onnxruntime
        from onnxruntime import quantization
    # The quantiser makes sessions without options, and these warn of each constant they remove.
    onnxruntime.set_default_logger_severity(ERRORS_ONLY)
    return quantization


class ValueCounts:
    """How often each value of an activation was seen, to 7 bits of its mantissa.

    Float32's upper 16 bits are the bins: memory does not grow with the range. The histogram of ONNX
    Runtime's calibrator does, by the ratio of the largest range to that of the first image.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(1 << 16, np.int64)
        self.lowest, self.highest = np.float32(np.inf), np.float32(-np.inf)

    def add(self, values: NDArray) -> None:
        """Count float32 values of any shape."""
        bins = np.ascontiguousarray(values).view(np.uint32) >> 16
        self.counts += np.bincount(bins.ravel(), minlength=len(self.counts))
        self.lowest = np.minimum(self.lowest, values.min())
        self.highest = np.maximum(self.highest, values.max())

    def range_of(self, percentile: float) -> tuple[NDArray, NDArray]:
        """The lowest and the highest value, () float32, with as many left out at either end."""
        bins = (np.arange(len(self.counts), dtype=np.uint32) << 16).view(np.float32)
        seen = np.flatnonzero(self.counts)
        seen = seen[np.argsort(bins[seen])]
        reached = np.cumsum(self.counts[seen])
        left_out = reached[-1] * (100 - percentile) / 200
        first = np.searchsorted(reached, left_out, side="right")
        last = np.searchsorted(reached, reached[-1] - left_out, side="left")
        # A bin holds magnitudes from its own to that of the next one.
        ends = np.stack([bins[seen], bins[seen] * np.float32(1 + 2**-7)])
        return (
            np.maximum(self.lowest, ends.min(axis=0)[first]),
            np.minimum(self.highest, ends.max(axis=0)[last]),
        )


class QuantizableGraph:
    """A float graph, made ready once and quantised in as many ways as are asked for.

    Attributes:
        folder: for what is in between.
        layers: names of its convolutions, in the graph's order.
    """

    def __init__(self, onnx_file: Path, folder: Path):
        """
        Args:
            onnx_file: the float graph.
            folder: an empty one, for what is in between.

        Raises:
            CheckFailed: the graph cannot be made ready, or has no convolution.
        """
        quantization = import_quantizer()
        import onnx

        self.folder = folder
        self._ready = folder / "ready.onnx"
        try:
            # Constants become initializers, batch norms go into convolutions, shapes are inferred.
            quantization.quant_pre_process(
                str(onnx_file), str(self._ready), skip_symbolic_shape=True
            )
        except Exception as error:  # its exceptions have no common base but this one
            raise CheckFailed(f"{onnx_file}: cannot be made ready for INT8: {error}") from error
        graph = onnx.load(str(self._ready)).graph
        self.layers = [node.name for node in graph.node if node.op_type in QUANTIZED_OPERATORS]
        self._input = graph.input[0].name
        self._counted: dict[str, ValueCounts] = {}
        self._ranges: Any = None
        if not self.layers:
            raise CheckFailed(f"{onnx_file}: no convolution in it that INT8 could speed up")

    def calibrate(self, batches: Iterable[NDArray]) -> None:
        """Count the values of every activation over the batches, which may differ in size.

        The ranges are those of all values then; `take_percentile` narrows them.
        """
        import onnx
        import onnxruntime

        model = onnx.load(str(self._ready))
        layers = [node for node in model.graph.node if node.op_type in QUANTIZED_OPERATORS]
        names = {name for node in layers for name in (node.input[0], node.output[0])}
        names -= {tensor.name for tensor in model.graph.initializer}
        counted = {name: ValueCounts() for name in names}
        computed = sorted(names - {self._input})
        known = {output.name for output in model.graph.output}
        model.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in computed if name not in known
        )
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=[CPU])
        for batch in batches:
            if self._input in counted:  # a convolution reads it, so that it is float32
                counted[self._input].add(batch)
            outputs = session.run(computed, {self._input: batch})
            for name, values in zip(computed, outputs, strict=True):
                counted[name].add(values)
        self._counted = counted
        self.take_percentile(100)

    def take_percentile(self, percentile: float) -> None:
        """Take ranges that hold this share, in percent, of each activation's values.

        Values beyond the range become its end. As many are left out at either end; 100 leaves
        none out.
        """
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

        ranges = {name: counts.range_of(percentile) for name, counts in self._counted.items()}
        self._ranges = TensorsData(CalibrationMethod.MinMax, ranges)

    def write(self, target: Path, layers: Sequence[str]) -> None:
        """Write the graph with these of its layers in INT8, after `calibrate`."""
        quantization = import_quantizer()
        import onnx
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        quantizer = QDQQuantizer(
            onnx.load(str(self._ready)),
            per_channel=True,
            reduce_range=False,
            weight_qType=quantization.QuantType.QInt8,
            activation_qType=quantization.QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=list(layers),
            nodes_to_exclude=[],
            op_types_to_quantize=list(QUANTIZED_OPERATORS),
            extra_options={},
        )
        quantizer.quantize_model()
        _round_after_relu(quantizer.model.model.graph)
        _pool_in_float(quantizer.model.model.graph)
        _scores_in_float(quantizer.model.model.graph)
        quantizer.model.clean_initializers()
        quantizer.model.save_model_to_file(str(target), False)


def _round_after_relu(graph: Any) -> None:
    """Round what a ReLU makes of a convolution, instead of what it reads and then what it makes.

    About half of the 256 steps before a ReLU are of negative values, which it drops. ONNX Runtime
    makes one INT8 kernel of the convolution and its ReLU.
    """
    maker = {output: node for node in graph.node for output in node.output}
    for relu in [node for node in graph.node if node.op_type == "Relu"]:
        dequantize = maker.get(relu.input[0])
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        quantize, rounded = maker[dequantize.input[0]], dequantize.output[0]
        if len(_readers(graph, rounded)) > 1 or len(_readers(graph, quantize.input[0])) > 1:
            continue
        readers = _readers(graph, relu.output[0])
        if not readers:
            continue
        relu.input[0] = quantize.input[0]
        if [node.op_type for node in readers] == ["QuantizeLinear"]:
            graph.node.remove(dequantize)
            graph.node.remove(quantize)
            continue
        _range_from_zero(graph, quantize)
        quantize.input[0] = relu.output[0]
        for node in readers:
            for number, name in enumerate(node.input):
                if name == relu.output[0]:
                    node.input[number] = rounded


def _readers(graph: Any, tensor: str) -> list[Any]:
    return [node for node in graph.node if tensor in node.input]


def _range_from_zero(graph: Any, quantize: Any) -> None:
    """Give the steps of negative values to the positive ones, where there are some."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    scale, zero = (tensors[name] for name in quantize.input[1:3])
    steps = 255 - int(numpy_helper.to_array(zero))
    if steps:
        finer = numpy_helper.to_array(scale) * np.float32(steps / 255)
        scale.CopyFrom(numpy_helper.from_array(finer, scale.name))
        zero.CopyFrom(numpy_helper.from_array(np.zeros((), np.uint8), zero.name))


def _pool_in_float(graph: Any) -> None:
    """Give average pooling its input as it is before it is quantised.

    OpenVINO 2026.4 pools the quantised map wrongly: BiSeNetV2's logits are off by half their size
    from its one such pooling alone.
    """
    maker = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        source = maker.get(node.input[0]) if node.op_type == "AveragePool" else None
        if source is not None and source.op_type == "DequantizeLinear":
            quantize = maker[source.input[0]]
            node.input[0] = quantize.input[0]
            if not any(source.output[0] in other.input for other in graph.node):
                graph.node.remove(source)
                graph.node.remove(quantize)


def _scores_in_float(graph: Any) -> None:
    """Where a graph ends in a convolution, leave its output, the scores, as it is computed.

    In 256 steps the best classes of many pixels are equal, and the arg-max is a matter of order.
    """
    maker = {output: node for node in graph.node for output in node.output}
    for output in graph.output:
        node = maker[output.name]
        quantize = maker.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        layer = maker.get(quantize.input[0]) if quantize is not None else None
        if quantize is None or layer is None or layer.op_type not in QUANTIZED_OPERATORS:
            continue
        if sum(layer.output[0] in other.input for other in graph.node) > 1:
            continue
        layer.output[0] = output.name
        graph.node.remove(node)
        graph.node.remove(quantize)
