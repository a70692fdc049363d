r"""Write a Triton model repository from a bundle that holds an ONNX graph.

  python export_model.py --config X.yml --model_path W.pdparams --save_dir bundle \
      --onnx True --fold_normalize True
  python deploy/triton/make_repository.py --config bundle/deploy.yaml --save_dir repository
  tritonserver --model-repository repository

With --fold_normalize the graph takes pixels as bytes. Changes of size and the way back are left to
the client; the configuration's parameters describe them.
"""

import json
import re
import shutil
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal

from paddleseg_ext.common.errors import UsageError, run_command
from paddleseg_ext.common.files import atomic_directory, require_replaceable, write_text
from paddleseg_ext.common.flags import natural_int, positive_int
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import option, parse_options
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.inference.bundle import Bundle, read_bundle

VERSION = "1"
CONFIG_FILE = "config.pbtxt"
# ONNX element type -> Triton's. Source: onnx.TensorProto.DataType; Triton model_config.proto.
TYPES = {1: "TYPE_FP32", 2: "TYPE_UINT8", 6: "TYPE_INT32", 7: "TYPE_INT64", 10: "TYPE_FP16"}


@dataclass(frozen=True)
class RepositoryOptions:
    """Options of a model repository."""

    config: str = option(MISSING, "deploy.yaml of the bundle", metavar="YAML")
    save_dir: Path = option(MISSING, "the model repository", metavar="DIR")
    name: str = option("segmentation", "of the model")
    precision: Literal["fp32", "int8"] = option("fp32", "int8 needs a bundle that `quantize` wrote")
    max_batch: int = option(8, "images that may run together", parse=positive_int)
    max_wait_ms: int = option(5, "how long the first one waits", parse=natural_int)
    instances: int = option(1, "of the model on each device", parse=positive_int)
    device: Literal["cpu", "gpu"] = option("gpu", "where it runs")


def main(argv: list[str] | None = None) -> int | None:
    """Write SAVE_DIR/NAME with the graph and `config.pbtxt`."""
    arguments = parse_options(RepositoryOptions, __doc__ or "", argv)
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", arguments.name):
        raise UsageError(
            f"--name: letters, digits, _ - and, not first, . are expected, got '{arguments.name}'"
        )
    text_format, model_config = _import_triton()
    bundle = read_bundle(arguments.config)
    graph = bundle.onnx_file(arguments.precision)
    config = model_config.ModelConfig(**describe(bundle, graph, arguments))
    target = arguments.save_dir / arguments.name
    require_replaceable(target, CONFIG_FILE, {VERSION}, "--save_dir and --name")
    with atomic_directory(target) as folder:
        (folder / VERSION).mkdir()
        shutil.copyfile(graph, folder / VERSION / "model.onnx")
        write_text(folder / CONFIG_FILE, text_format.MessageToString(config))
    log(f"[TRITON] {target}")
    return None


def describe(bundle: Bundle, graph: Path, arguments: RepositoryOptions) -> dict[str, Any]:
    """The fields of Triton's ModelConfig.

    Raises:
        UsageError: the graph has a type that Triton has no name for.
    """
    import onnx

    model = onnx.load(str(graph), load_external_data=False)
    inputs, outputs = model.graph.input, model.graph.output
    has_free_batch = not inputs[0].type.tensor_type.shape.dim[0].dim_value
    fields: dict[str, Any] = {
        "name": arguments.name,
        "backend": "onnxruntime",
        "max_batch_size": arguments.max_batch if has_free_batch else 0,
        "input": [_tensor(value, has_free_batch, graph) for value in inputs],
        "output": [_tensor(value, has_free_batch, graph) for value in outputs],
        "instance_group": [
            {
                "count": arguments.instances,
                "kind": "KIND_GPU" if arguments.device == "gpu" else "KIND_CPU",
            }
        ],
        "parameters": {
            name: {"string_value": value} for name, value in left_to_the_client(bundle).items()
        },
    }
    if has_free_batch:
        delay_us = arguments.max_wait_ms * 1000
        fields["dynamic_batching"] = {"max_queue_delay_microseconds": delay_us}
    return fields


def left_to_the_client(bundle: Bundle) -> dict[str, str]:
    """Texts that describe the client's part: pre- and postprocessing, and the classes."""
    texts = {
        "transforms": json.dumps(bundle.transforms),
        "color_order": bundle.color_order,
        "output_op": bundle.output_op,
        "resize_back": bundle.postprocess().resize_back,
    }
    if bundle.manifest:
        texts["classes"] = json.dumps(list(bundle.manifest.class_table.class_names))
        texts["upsampling"] = bundle.manifest.upsampling
        texts["native_stride"] = str(bundle.manifest.native_stride)
        texts["checkpoint_sha256"] = str(bundle.manifest.checkpoint.get("sha256"))
    return texts


def _tensor(value: Any, has_free_batch: bool, graph: Path) -> dict[str, Any]:
    """Name, type and sides of a graph's input or output; the batch is Triton's own where free."""
    tensor = value.type.tensor_type
    if tensor.elem_type not in TYPES:
        raise UsageError(f"{graph}: '{value.name}' has ONNX type {tensor.elem_type}, unknown here")
    sides = [side.dim_value or -1 for side in tensor.shape.dim]
    dims = sides[1:] if has_free_batch else sides
    return {"name": value.name, "data_type": TYPES[tensor.elem_type], "dims": dims}


def _import_triton() -> tuple[Any, Any]:
    with optional_imports("make_repository", "triton"):
        import onnx  # noqa: F401
        from google.protobuf import text_format
        from tritonclient.grpc import model_config_pb2
    return text_format, model_config_pb2


if __name__ == "__main__":
    run_command(main)
