"""Requests and answers of the Open Inference Protocol v2: JSON, and tensors as bytes behind it.

Source: the protocol's HTTP interface (kserve/open-inference-protocol) and Triton's extension for
binary tensors, which `tritonclient.http` speaks.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import cut, shown
from paddleseg_ext.common.json_files import parse_json
from paddleseg_ext.serving.images import Refused

IMAGE, LABELS, CONFIDENCE = "image", "labels", "confidence"
OUTPUTS = {LABELS: "UINT8", CONFIDENCE: "FP32"}  # name -> type in the protocol's words
HEADER_LENGTH = "Inference-Header-Content-Length"
CHANNELS = 3
# Of a body's JSON, which takes some 20 times as much memory; larger tensors come as bytes.
MOST_JSON_BYTES = 4 << 20
MOST_JSON_VALUES = 1 << 20  # of an answer's tensor


@dataclass(frozen=True)
class InferRequest:
    """A request to infer.

    Attributes:
        images: (N, H, W, 3) uint8 RGB.
        outputs: name of each that is asked for -> whether as bytes.
        id: of the request, given back in the answer; None where it has none.
    """

    images: NDArray[np.uint8]
    outputs: Mapping[str, bool]
    id: str | None = None


def read_infer_request(body: bytes, header_length: str | None) -> InferRequest:
    """The request in a body.

    Args:
        body: JSON, and behind it the bytes of tensors.
        header_length: bytes of the JSON, from `HEADER_LENGTH`; None where there is nothing else.

    Raises:
        Refused: 400 not of the protocol's form; 413 too much JSON; 422 another tensor than the
            image, or an output that there is not.
    """
    header, tail = _parts(body, header_length)
    inputs = _sections(header, "inputs", required=True)
    if len(inputs) != 1 or inputs[0].get("name") != IMAGE:
        names = ", ".join(shown(entry.get("name")) for entry in inputs[:4]) or "none"
        raise Refused(422, f"inputs: one tensor '{IMAGE}' is expected, got {names}")
    request_id = header.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise Refused(400, f"id: a text is expected, got {shown(request_id)}")
    return InferRequest(_image(inputs[0], tail), _asked_for(header), request_id or None)


def _parts(body: bytes, header_length: str | None) -> tuple[dict[str, Any], bytes]:
    length = len(body)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdigit()) or len(header_length) > 12:
            raise Refused(400, f"{HEADER_LENGTH}: a number of bytes is expected")
        length = int(header_length)
        if length > len(body):
            raise Refused(400, f"{HEADER_LENGTH} is {length}, the body has {len(body)} bytes")
    if length > MOST_JSON_BYTES:
        raise Refused(
            413, f"at most {MOST_JSON_BYTES} bytes of JSON are expected; send the image as bytes"
        )
    try:
        header = parse_json(body[:length])
    except ValueError as error:
        raise Refused(400, f"the body's JSON cannot be read: {cut(str(error))}") from None
    if not isinstance(header, dict):
        raise Refused(400, f"the body: a JSON object is expected, got {shown(header)}")
    return header, body[length:]


def _sections(
    header: Mapping[str, Any], key: str, required: bool = False
) -> Sequence[dict[str, Any]]:
    found = header.get(key)
    if found is None and not required:
        return []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise Refused(400, f"{key}: a list of objects is expected, got {shown(found)}")
    return found


def _parameters(section: Mapping[str, Any], where: str) -> dict[str, Any]:
    found = section.get("parameters", {})
    if not isinstance(found, dict):
        raise Refused(400, f"{where}: parameters: an object is expected, got {shown(found)}")
    if any(key.startswith("shared_memory") for key in found):
        raise Refused(422, f"{where}: shared memory is not offered; send and take bytes")
    if found.get("classification"):
        raise Refused(422, f"{where}: classification is not offered; a label map has a class each")
    return found


def _image(section: Mapping[str, Any], tail: bytes) -> NDArray[np.uint8]:
    datatype, shape = section.get("datatype"), section.get("shape")
    if datatype != "UINT8":
        raise Refused(422, f"{IMAGE}: datatype UINT8 is expected, got {shown(datatype)}")
    if (
        not isinstance(shape, list)
        or not all(isinstance(side, int) and not isinstance(side, bool) for side in shape)
        or len(shape) != 4
        or min(shape) < 1
        or shape[3] != CHANNELS
    ):
        raise Refused(
            422, f"{IMAGE}: shape [images, height, width, 3] is expected, got {shown(shape)}"
        )
    count = int(np.prod(np.array(shape, object)))  # Python's integers: no overflow
    size = _parameters(section, IMAGE).get("binary_data_size")
    if size is None and "data" not in section:
        raise Refused(400, f"{IMAGE}: data or parameters.binary_data_size is expected")
    if size is None:
        if tail:
            raise Refused(400, f"{len(tail)} bytes follow the JSON that no tensor names")
        return _from_json(section["data"], count).reshape(shape)
    if "data" in section or size != count or len(tail) != count:
        raise Refused(
            400,
            f"{IMAGE}: the shape is of {count} bytes, binary_data_size says {shown(size)}, and "
            f"{len(tail)} follow the JSON; they must be equal, with no 'data' beside them",
        )
    return np.frombuffer(tail, np.uint8).reshape(shape)


def _from_json(data: Any, count: int) -> NDArray[np.uint8]:
    wanted = f"{IMAGE}: data: {count} whole numbers from 0 to 255 are expected"
    try:
        # As objects: of numbers beside a text NumPy would make as many texts of its length.
        values = np.asarray(data, object)
    except ValueError:  # lists of unlike lengths
        raise Refused(400, wanted) from None
    if values.size != count:
        raise Refused(400, f"{wanted}, got {values.size} values")
    if not all(type(value) is int and 0 <= value <= 255 for value in values.flat):
        raise Refused(400, wanted)
    return values.astype(np.uint8).ravel()


def _asked_for(header: Mapping[str, Any]) -> dict[str, bool]:
    as_bytes = _switch(_parameters(header, "parameters"), "binary_data_output", False)
    asked: dict[str, bool] = {}
    for section in _sections(header, "outputs"):
        name = section.get("name")
        if not isinstance(name, str) or name not in OUTPUTS:
            known = " and ".join(OUTPUTS)
            raise Refused(422, f"outputs: {known} are offered, got {shown(name)}")
        asked[name] = _switch(_parameters(section, name), "binary_data", as_bytes)
    return asked or {LABELS: as_bytes}


def _switch(parameters: Mapping[str, Any], key: str, default: bool) -> bool:
    found = parameters.get(key, default)
    if not isinstance(found, bool):
        raise Refused(400, f"parameters.{key}: true or false is expected, got {shown(found)}")
    return found


def write_infer_answer(
    name: str, version: str, request: InferRequest, tensors: Mapping[str, NDArray]
) -> tuple[bytes, int | None]:
    """The body of an answer, and the bytes of its JSON where tensors follow as bytes.

    Args:
        name: of the model.
        version: of the model.
        request: that is answered.
        tensors: name -> tensor, of every output that was asked for.

    Raises:
        Refused: 422, more values than JSON shall hold.
    """
    sections, tail = [], []
    for output, is_binary in request.outputs.items():
        tensor = np.ascontiguousarray(tensors[output])
        section: dict[str, Any] = {
            "name": output,
            "shape": list(tensor.shape),
            "datatype": OUTPUTS[output],
        }
        if is_binary:
            section["parameters"] = {"binary_data_size": tensor.nbytes}
            tail.append(tensor.tobytes())
        elif tensor.size > MOST_JSON_VALUES:
            raise Refused(
                422,
                f"{output}: {tensor.size} values are more than the {MOST_JSON_VALUES} of an answer "
                "in JSON; ask for it with binary_data true",
            )
        else:
            section["data"] = tensor.ravel().tolist()
        sections.append(section)
    answer = {"model_name": name, "model_version": version, "outputs": sections}
    if request.id is not None:
        answer["id"] = request.id
    text = json.dumps(answer).encode()
    return b"".join([text, *tail]), len(text) if tail else None
