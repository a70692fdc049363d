"""The tensors of a bundle: compared with the checkpoint's, and changed for negative controls."""

import hashlib
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.bundle import ONNX_SUFFIX, Bundle

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
        num_changed: of the foreign ones, those that are a tensor of the checkpoint with other
            values here and there. An export's own constants are none.
    """

    num_foreign: int
    num_tensors: int
    num_changed: int = 0

    @property
    def mostly_foreign(self) -> bool:
        """More than half: a whole checkpoint, not a tensor or two."""
        return self.num_foreign > self.num_tensors / 2


def compare_weights(file: Path, tensors: Iterable[NDArray]) -> WeightDifference:
    """Look up every float tensor of a `.pdiparams` or ONNX file among the checkpoint's, by content.

    Tensors of one element are left out: the graph has constants of its own.

    Args:
        file: of the bundle.
        tensors: of the network with the checkpoint in it.

    Raises:
        UsageError: the file has another format.
    """
    held = [tensor for tensor in tensors if tensor.size > 1 and tensor.dtype.kind == "f"]
    found = [tensor for tensor in _tensors_in(file) if tensor.size > 1]
    kinds = {tensor.dtype for tensor in found}
    known = {_digest(tensor.astype(kind)) for kind in kinds for tensor in held}
    digests = [_digest(tensor) for tensor in found]
    foreign = [t for t, digest in zip(found, digests, strict=True) if digest not in known]
    # Counted, since fresh norms are alike: one of them may be changed and the others not.
    present = Counter(digests)
    missing = []
    for tensor in held:
        found_as = [d for kind in kinds if present[d := _digest(tensor.astype(kind))] > 0]
        present.subtract(found_as[:1])
        missing += [] if found_as else [tensor]
    changed = [t for t in foreign if any(_is_altered(t, original) for original in missing)]
    return WeightDifference(len(foreign), len(found), len(changed))


def _digest(tensor: NDArray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(tensor).tobytes()).digest()


def _is_altered(tensor: NDArray, original: NDArray) -> bool:
    """Whether a tensor is another one, altered: half of the values, or most of the sum, are its."""
    if tensor.shape != original.shape:
        return False
    a, b = tensor.astype(np.float64), original.astype(tensor.dtype).astype(np.float64)
    return bool((a == b).mean() >= 0.5 or np.linalg.norm(a - b) <= 0.5 * np.linalg.norm(b))


def _tensors_in(file: Path) -> Iterator[NDArray]:
    """The float tensors of a file of a bundle."""
    if file.suffix == ONNX_SUFFIX:
        import onnx

        for tensor in _onnx_tensors(onnx.load(str(file)).graph):
            array = onnx.numpy_helper.to_array(tensor)
            if array.dtype.kind == "f":
                yield array
        return
    content = file.read_bytes()
    for dims, start, stop in float_tensors(content):
        yield np.frombuffer(content[start:stop], np.float32).reshape(dims)


def _onnx_tensors(graph: Any) -> Iterator[Any]:
    """The tensors of an ONNX graph: initializers and Constant nodes, also of its subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t"):
                yield attribute.t
            for inner in (attribute.g, *attribute.graphs):
                yield from _onnx_tensors(inner)


def tensor_shapes(params_file: Path) -> list[tuple[int, ...]]:
    """The shape of every float tensor that `compare_weights` looks at.

    Raises:
        UsageError: the file has another format.
    """
    shapes = [tuple(dims) for dims, _, _ in float_tensors(params_file.read_bytes())]
    return [shape for shape in shapes if np.prod(shape, dtype=np.int64) > 1]


def change_tensors(bundle: Bundle, change: Change) -> int:
    """Rewrite the float tensors of a bundle's files in place.

    Args:
        bundle: a copy; its file of weights, or its ONNX graph, is written again.
        change: called with every tensor in the order of the file.

    Returns:
        How many tensors have other values now.

    Raises:
        UsageError: a file of another format.
    """
    if bundle.params_file is None:
        return _change_onnx(bundle.model_file, change)
    content, count = bytearray(bundle.params_file.read_bytes()), 0
    for dims, start, stop in float_tensors(bytes(content)):
        values = np.frombuffer(content[start:stop], np.float32).reshape(dims)
        changed = change(values)
        if changed is not None and not np.array_equal(changed, values):
            content[start:stop] = changed.astype(np.float32).tobytes()
            count += 1
    bundle.params_file.write_bytes(content)
    return count


def _change_onnx(path: Path, change: Change) -> int:
    import onnx

    model = onnx.load(str(path))
    count = sum(_change_tensor(tensor, change) for tensor in _onnx_tensors(model.graph))
    onnx.save(model, str(path))
    return count


def _change_tensor(tensor: Any, change: Change) -> bool:
    """Change an ONNX tensor of floats; returns whether it has other values now."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    changed = change(values) if values.dtype.kind == "f" else None
    if changed is None or np.array_equal(changed, values):
        return False
    tensor.CopyFrom(numpy_helper.from_array(changed.astype(values.dtype), tensor.name))
    return True


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
    held |= {
        node.output[0]: attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.HasField("t")
    }
    dequantized = {
        node.output[0]: held[node.input[1]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and {*node.input[:2]} <= held.keys()
    }
    layers = [node for node in model.graph.node if node.op_type == "Conv"]
    scales = [dequantized[node.input[1]] for node in layers if node.input[1] in dequantized]
    if not scales:
        raise UsageError(f"{path} has no INT8 convolution")
    for scale in scales:
        _change_tensor(scale, change)
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
