"""Graphs for engines of phones, made from the bundle's `model.onnx`.

MNN's converter is called past its Python front: that one installs packages by pip when it is
imported (`aliyun-log-python-sdk`), and sends a record of each conversion to its makers. A converter
has a process of its own, which it may end.
"""

import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.packages import how_to_install
from paddleseg_ext.export.onnx_conversion import ending_of, fold_sizes, reason_of, run_alone
from paddleseg_ext.inference.engines.table import ENGINES

MNN_PROGRAM = """
import sys
import _tools
source, target = sys.argv[1:]
names = ["--modelFile", source, "--MNNModel", target, "--bizCode", "bundle"]
_tools.mnnconvert(["mnnconvert", "-f", "ONNX", *names])
"""


def require_mnn() -> None:
    """Check that MNN is installed.

    Raises:
        UsageError: it is not.
    """
    if not ENGINES["mnn"].is_installed:
        raise UsageError(f"--mnn True: MNN is not installed: {how_to_install('mnn')}")


def write_mnn(onnx_file: Path, mnn_file: Path) -> dict[str, Any]:
    """Converts an ONNX graph to one of MNN's; free sides stay free.

    Returns:
        The file's entry in the manifest: its name and maker.

    Raises:
        CheckFailed: MNN cannot convert the graph; the message has its reason, in one line.
    """
    files = [str(file.resolve()) for file in (onnx_file, mnn_file)]
    command = [sys.executable, "-P", "-c", MNN_PROGRAM, *files]
    with tempfile.TemporaryDirectory(dir=mnn_file.parent) as folder:
        # It writes a file of its own where it runs.
        return _written(command, [mnn_file], f"MNN {metadata.version('MNN')}", Path(folder))


def pnnx_program() -> Path | None:
    """The converter to ncnn; None where it is not installed.

    Its package asks for PyTorch, which only its Python front needs, so it is not imported.
    """
    found = find_spec("pnnx")
    places = (found.submodule_search_locations or []) if found else []
    return next(
        (Path(place) / "pnnx" for place in places if (Path(place) / "pnnx").is_file()), None
    )


def require_pnnx() -> None:
    """Check that the converter to ncnn is installed.

    Raises:
        UsageError: it is not.
    """
    if pnnx_program() is None:
        raise UsageError(
            "--ncnn True: its converter is not installed: pip install --no-deps "
            "-r requirements/pnnx.txt (PyTorch, which pnnx asks for, is not needed)"
        )


def write_ncnn(onnx_file: Path, param_file: Path, input_shape: Sequence[int]) -> dict[str, Any]:
    """Converts an ONNX graph to one of ncnn's, in two files, of one size and float32.

    Args:
        onnx_file: the graph.
        param_file: is written, and its weights beside it, `.bin`.
        input_shape: N, C, H, W; ncnn runs one image at a time.

    Returns:
        The files' entry in the manifest: the name of the first, and the maker.

    Raises:
        CheckFailed: pnnx cannot convert the graph; the message has its reason, in one line.
    """
    import onnx

    with tempfile.TemporaryDirectory(dir=param_file.parent.resolve()) as folder:
        # It writes ten files beside its input.
        graph, shape = Path(folder) / "net.onnx", (1, *input_shape[1:])
        model = onnx.load(str(onnx_file))
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(model, str(graph))
        fold_sizes(graph, shape, "float32")  # that of a free batch computes shapes
        onnx.save(_as_pnnx_reads_it(onnx.load(str(graph))), str(graph))
        files = [Path(folder) / "net.ncnn.param", Path(folder) / "net.ncnn.bin"]
        sides = f"inputshape=[{','.join(map(str, shape))}]"
        command = [str(pnnx_program()), str(graph), sides, "fp16=0"]
        entry = _written(command, files, f"pnnx {metadata.version('pnnx')}", Path(folder))
        if foreign := _foreign_layers(files[0]):
            raise CheckFailed(
                f"{entry['made_by']} cannot convert the ONNX graph: ncnn has no "
                f"{', '.join(foreign)}"
            )
        for file, target in zip(files, (param_file, param_file.with_suffix(".bin")), strict=True):
            file.replace(target)
    return {**entry, "file": param_file.name}


def _foreign_layers(param_file: Path) -> list[str]:
    """Operators that pnnx left as PyTorch's (`Tensor.slice`); those of ncnn have no dot."""
    lines = param_file.read_text(encoding="utf-8").splitlines()[2:]  # a magic number, two counts
    return sorted({line.split()[0] for line in lines if "." in line.split()[0]})


def _as_pnnx_reads_it(model: Any) -> Any:
    """The model with the mode of each padding written out, and resizes as PyTorch writes them.

    pnnx does not know the default of the first, and no other form of the second; ncnn gathers
    nothing, so repeated rows are a resize, too.
    """
    from onnx import helper, numpy_helper

    held = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Pad" and not any(each.name == "mode" for each in node.attribute):
            node.attribute.append(helper.make_attribute("mode", "constant"))
        if node.op_type == "Resize" and len(node.input) == 4:
            node.CopyFrom(_linear_as_pytorch(node))
        factor = _repeats(held.get(node.input[1])) if node.op_type == "Gather" else 0
        if factor:
            axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
            scales = np.ones(4, np.float32)
            scales[axis] = factor
            name = f"{node.output[0]}.scales"
            model.graph.initializer.append(numpy_helper.from_array(scales, name))
            words = {"mode": "nearest", "nearest_mode": "floor"}
            words["coordinate_transformation_mode"] = "asymmetric"
            inputs = [node.input[0], "", name]
            node.CopyFrom(helper.make_node("Resize", inputs, list(node.output), node.name, **words))
    return model


def _linear_as_pytorch(node: Any) -> Any:
    """A Resize by sizes without what it leaves empty; as it was, where it is not linear."""
    from onnx import helper

    words = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if words.get("mode") != b"linear":
        return node
    words |= {"cubic_coeff_a": -0.75, "nearest_mode": "floor"}  # of other modes
    kept = ("coordinate_transformation_mode", "cubic_coeff_a", "mode", "nearest_mode")
    inputs = [node.input[0], "", "", node.input[3]]
    attributes = {name: words[name] for name in kept if name in words}
    return helper.make_node("Resize", inputs, list(node.output), node.name, **attributes)


def _repeats(indices: NDArray | None) -> int:
    """How often each row is taken, by indices that take all, in order, so often; else 0."""
    if indices is None or indices.ndim != 1:
        return 0
    factor = int(np.count_nonzero(indices == 0))
    whole = factor and np.array_equal(indices, np.arange(len(indices)) // factor)
    return factor if whole else 0


def _written(
    command: Sequence[str], files: Sequence[Path], maker: str, folder: Path
) -> dict[str, Any]:
    """The manifest's entry of files that a converter writes, running in `folder`."""
    done = run_alone(command, folder)
    if done.returncode or not all(file.is_file() for file in files):
        for file in files:
            file.unlink(missing_ok=True)
        raise CheckFailed(
            f"{maker} cannot convert the ONNX graph: {reason_of(done.stdout)} "
            f"({ending_of(done.returncode)})"
        )
    return {"file": files[0].name, "made_by": maker}
