"""The tensors of a bundle: compared with the checkpoint's, and changed for negative controls."""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.bundle import Bundle

# Returns another tensor of the same shape, or None where it stays.
Change = Callable[[NDArray[np.float32]], NDArray[np.float32] | None]
_FLOAT32 = 5  # of Paddle's VarType
_DTYPE_TAG, _DIMS_TAG = 0x08, 0x10  # fields 1 and 2 of TensorDesc, as varints


@dataclass(frozen=True)
class WeightDifference:
    """How many tensors of a bundle are not the checkpoint's.

    Attributes:
        num_foreign: float tensors of the bundle that the checkpoint does not hold.
        num_tensors: float tensors that were compared.
    """

    num_foreign: int
    num_tensors: int

    @property
    def mostly_foreign(self) -> bool:
        """More than half: a whole checkpoint, not a tensor or two."""
        return self.num_foreign > self.num_tensors / 2


def compare_weights(params_file: Path, tensors: Iterable[NDArray]) -> WeightDifference:
    """Look up every float tensor of a `.pdiparams` among the checkpoint's, by content.

    Tensors of one element are left out: the graph has constants of its own.

    Args:
        params_file: of the bundle.
        tensors: of the network with the checkpoint in it.

    Raises:
        UsageError: the file has another format.
    """
    known = {hashlib.sha256(np.ascontiguousarray(t).tobytes()).digest() for t in tensors}
    content = params_file.read_bytes()
    found = [
        hashlib.sha256(content[start:stop]).digest() in known
        for dims, start, stop in float_tensors(content)
        if np.prod(dims, dtype=np.int64) > 1
    ]
    return WeightDifference(found.count(False), len(found))


def tensor_shapes(params_file: Path) -> list[tuple[int, ...]]:
    """The shape of every float tensor that `compare_weights` looks at.

    Raises:
        UsageError: the file has another format.
    """
    shapes = [tuple(dims) for dims, _, _ in float_tensors(params_file.read_bytes())]
    return [shape for shape in shapes if np.prod(shape, dtype=np.int64) > 1]


def change_tensors(bundle: Bundle, change: Change) -> None:
    """Rewrite the float tensors of a bundle's files in place.

    Args:
        bundle: a copy; its file of weights, or its ONNX graph, is written again.
        change: called with every tensor in the order of the file.

    Raises:
        UsageError: a file of another format.
    """
    if bundle.params_file is None:
        _change_initializers(bundle.model_file, change)
        return
    content = bytearray(bundle.params_file.read_bytes())
    for dims, start, stop in float_tensors(bytes(content)):
        values = np.frombuffer(content[start:stop], np.float32).reshape(dims)
        changed = change(values)
        if changed is not None:
            content[start:stop] = changed.astype(np.float32).tobytes()
    bundle.params_file.write_bytes(content)


def _change_initializers(path: Path, change: Change) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    for initializer in model.graph.initializer:
        if numpy_helper.to_array(initializer).dtype == np.float32:
            _change_initializer(initializer, change)
    onnx.save(model, str(path))


def _change_initializer(initializer: Any, change: Change) -> None:
    from onnx import numpy_helper

    changed = change(numpy_helper.to_array(initializer))
    if changed is not None:
        new = numpy_helper.from_array(changed.astype(np.float32), initializer.name)
        initializer.CopyFrom(new)


def change_scales(path: Path, change: Change) -> None:
    """Rewrite the scales of an ONNX graph's INT8 weights in place, in the order of its layers.

    An INT8 weight cannot leave its tensor's range; its scale can.

    Args:
        path: a graph whose INT8 weights go through DequantizeLinear.
        change: called with every scale.

    Raises:
        UsageError: it holds no such weight.
    """
    import onnx

    model = onnx.load(str(path))
    held = {initializer.name: initializer for initializer in model.graph.initializer}
    dequantized = {
        node.output[0]: held[node.input[1]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in held
    }
    layers = [node for node in model.graph.node if node.op_type == "Conv"]
    scales = [dequantized[node.input[1]] for node in layers if node.input[1] in dequantized]
    if not scales:
        raise UsageError(f"{path} has no INT8 convolution")
    for scale in scales:
        _change_initializer(scale, change)
    onnx.save(model, str(path))


def float_tensors(content: bytes | bytearray) -> Iterator[tuple[list[int], int, int]]:
    """Shape and byte range of every float32 tensor of a `.pdiparams` file.

    Raises:
        UsageError: it has another format.

    Source: PaddlePaddle `lod_tensor.cc`, `SerializeToStream`: version, LoD, version, length of a
    TensorDesc, TensorDesc, data; one after the other.
    """
    sizes = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, _FLOAT32: 4, 6: 8, 20: 1, 21: 1, 22: 2}
    place = 0
    while place < len(content):
        try:
            _, levels = struct.unpack_from("<IQ", content, place)
            place += 12
            for _ in range(levels):
                place += 8 + struct.unpack_from("<Q", content, place)[0]
            length = struct.unpack_from("<4xi", content, place)[0]
            place += 8
            dtype, dims = _read_tensor_desc(content[place : place + length])
            place += length
            stop = place + int(np.prod(dims, dtype=np.int64)) * sizes[dtype]
        except (struct.error, KeyError, IndexError):
            raise UsageError(f"not a .pdiparams file: nothing readable at byte {place}") from None
        if dtype == _FLOAT32:
            yield dims, place, stop
        place = stop


def _read_tensor_desc(text: bytes | bytearray) -> tuple[int, list[int]]:
    """Type and shape of a serialised TensorDesc."""
    dtype, dims, place = -1, [], 0
    while place < len(text):
        tag, place = text[place], place + 1
        value, shift = 0, 0
        while True:
            byte, place = text[place], place + 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if tag == _DTYPE_TAG:
            dtype = value
        elif tag == _DIMS_TAG:
            dims.append(value)
    return dtype, dims
