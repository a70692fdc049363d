"""deploy/triton/client.py, and tritonclient itself, against `serve` and a stand-in for Triton.

Triton's server is not here. The stand-in speaks its two interfaces by its own client library's
definitions, and runs the graph of the model repository.
"""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import pytest
from commands import call
from PIL import Image

from .conftest import Deployment
from .serving import Server, serving

httpclient = pytest.importorskip("tritonclient.http")
grpc = pytest.importorskip("grpc")
CLIENT = "deploy/triton/client.py"
KEY = "0123456789abcdef"


class Model:
    """The graph and configuration of a repository."""

    def __init__(self, folder: Path):
        onnxruntime = pytest.importorskip("onnxruntime")
        from google.protobuf import text_format
        from tritonclient.grpc import model_config_pb2

        text = (folder / "config.pbtxt").read_text()
        self.config = text_format.Parse(text, model_config_pb2.ModelConfig())
        graph = str(folder / "1" / "model.onnx")
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.inputs = [(value.name, [-1, *value.dims]) for value in self.config.input]
        self.outputs = [(value.name, [-1, *value.dims]) for value in self.config.output]
        self.input_type = {6: "INT32", 2: "UINT8", 11: "FP32"}[self.config.input[0].data_type]

    def run(self, content: bytes, shape: list[int]) -> np.ndarray:
        kind = np.uint8 if self.input_type == "UINT8" else np.float32
        tensor = np.frombuffer(content, kind).reshape(shape)
        return self.session.run(None, {self.inputs[0][0]: tensor})[0]


@contextmanager
def over_grpc(model: Model) -> Iterator[str]:
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ModelMetadata(self, request: Any, context: Any) -> Any:
            if request.name != model.config.name:
                context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model '{request.name}'")
            tensor = service_pb2.ModelMetadataResponse.TensorMetadata
            (name, shape), (output, dims) = model.inputs[0], model.outputs[0]
            return service_pb2.ModelMetadataResponse(
                name=request.name,
                inputs=[tensor(name=name, datatype=model.input_type, shape=shape)],
                outputs=[tensor(name=output, datatype="FP32", shape=dims)],
            )

        def ModelConfig(self, request: Any, context: Any) -> Any:
            return service_pb2.ModelConfigResponse(config=model.config)

        def ModelInfer(self, request: Any, context: Any) -> Any:
            found = model.run(request.raw_input_contents[0], list(request.inputs[0].shape))
            output = service_pb2.ModelInferResponse.InferOutputTensor(
                name=model.outputs[0][0], datatype="FP32", shape=found.shape
            )
            return service_pb2.ModelInferResponse(
                outputs=[output], raw_output_contents=[found.tobytes()]
            )

    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@contextmanager
def over_http(model: Model) -> Iterator[str]:
    from google.protobuf.json_format import MessageToDict

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, content: bytes, length: int | None = None) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            if length is not None:
                self.send_header("Inference-Header-Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            if self.path.endswith("/config"):
                found = MessageToDict(model.config, preserving_proto_field_name=True)
            else:
                (name, shape), (output, dims) = model.inputs[0], model.outputs[0]
                found = {
                    "name": model.config.name,
                    "inputs": [{"name": name, "datatype": model.input_type, "shape": shape}],
                    "outputs": [{"name": output, "datatype": "FP32", "shape": dims}],
                }
            self.answer(json.dumps(found).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            length = int(self.headers["Inference-Header-Content-Length"])
            shape = json.loads(body[:length])["inputs"][0]["shape"]
            found = model.run(body[length:], shape)
            output = {
                "name": model.outputs[0][0],
                "datatype": "FP32",
                "shape": list(found.shape),
                "parameters": {"binary_data_size": found.nbytes},
            }
            text = json.dumps({"outputs": [output]}).encode()
            self.answer(text + found.tobytes(), len(text))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    key = tmp_path_factory.mktemp("key") / "key"
    key.write_text(KEY)
    with serving(bundle, "--model_name", "street", "--api_key_file", str(key)) as running:
        yield running


@pytest.fixture(scope="module")
def inferred(bundle: Path, deployment: Deployment, tmp_path_factory: Any) -> Path:
    """The label maps of `infer`."""
    save_dir = tmp_path_factory.mktemp("inferred")
    flags = ["--image_path", deployment.list, "--save_dir", save_dir, "--cpu_threads", 1]
    done = call("infer.py", "--config", bundle, *flags, "--device", "cpu")
    assert done.status == 0, done.err
    return save_dir / "label_maps"


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def test_tritons_http_client_works_on_the_service(
    server: Server, deployment: Deployment, inferred: Path
) -> None:
    headers = MappingProxyType({"Authorization": f"Bearer {KEY}"})  # the client adds to its own
    with httpclient.InferenceServerClient(server.url.removeprefix("http://")) as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("street")
        assert client.get_server_metadata(headers=headers)["name"] == "paddleseg_ext"
        described = client.get_model_metadata("street", headers=headers)
        assert described["inputs"][0]["datatype"] == "UINT8"
        pixels = cv2.imread(str(deployment.list.parent / "city0/frame.png"))[None, :, :, ::-1]
        expected = np.asarray(Image.open(inferred / "city0/frame.png"))
        for is_binary in (True, False):
            tensor = httpclient.InferInput("image", list(pixels.shape), "UINT8")
            tensor.set_data_from_numpy(np.ascontiguousarray(pixels), binary_data=is_binary)
            asked = [
                httpclient.InferRequestedOutput(name, binary_data=is_binary)
                for name in ("labels", "confidence")
            ]
            for outputs in (asked, None):
                answer = client.infer(
                    "street", [tensor], outputs=outputs, request_id="7", headers=dict(headers)
                )
                labels = answer.as_numpy("labels")
                assert labels.dtype == np.uint8 and answer.get_response()["id"] == "7"
                np.testing.assert_array_equal(labels[0], expected)
        confidence = client.infer("street", [tensor], outputs=asked, headers=dict(headers))
        assert 0 < confidence.as_numpy("confidence").min() <= 1
        with pytest.raises(Exception, match="'street', another one was asked for"):
            client.infer("other", [tensor], headers=dict(headers))


def test_label_maps_of_the_service_are_infers(
    server: Server, bundle: Path, deployment: Deployment, inferred: Path, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(KEY)
    flags = ["--url", server.url.removeprefix("http://"), "--name", "street"]
    flags += ["--api_key_file", tmp_path / "key", "--image_path", deployment.list]
    done = call(CLIENT, *flags, "--save_dir", tmp_path / "out", "--config", bundle)
    assert done.status == 0, done.err
    assert content_of(tmp_path / "out" / "label_maps") == content_of(inferred)
    # Without the bundle: the same pixels under other colours.
    done = call(CLIENT, *flags, "--save_dir", tmp_path / "plain")
    assert done.status == 0, done.err
    for path in inferred.rglob("*.png"):
        plain = Image.open(tmp_path / "plain" / "label_maps" / path.relative_to(inferred))
        np.testing.assert_array_equal(np.asarray(plain), np.asarray(Image.open(path)))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_label_maps_of_a_repository_are_those_of_its_graph(
    protocol: str, onnx_bundle: Path, deployment: Deployment, tmp_path: Path
) -> None:
    flags = ["--config", onnx_bundle, "--save_dir", tmp_path / "repository", "--name", "street"]
    assert call("deploy/triton/make_repository.py", *flags).status == 0
    flags = ["--image_path", deployment.list, "--save_dir", tmp_path / "inferred"]
    flags += ["--backend", "onnxruntime", "--cpu_threads", 1]
    assert call("infer.py", "--config", onnx_bundle, *flags).status == 0
    model = Model(tmp_path / "repository" / "street")
    with {"grpc": over_grpc, "http": over_http}[protocol](model) as url:
        flags = ["--url", url, "--protocol", protocol, "--name", "street"]
        flags += ["--image_path", deployment.list, "--save_dir", tmp_path / "out"]
        done = call(CLIENT, *flags, "--config", onnx_bundle)
        assert done.status == 0, done.err
        without = call(CLIENT, *flags)
        assert without.status == 2 and "--config" in without.error_lines[0]
        model.config.parameters["checkpoint_sha256"].string_value = "0" * 64
        stale = call(CLIENT, *flags, "--config", onnx_bundle)
        assert stale.status == 2 and "is of checkpoint" in stale.error_lines[0]
    found = content_of(tmp_path / "out" / "label_maps")
    assert found == content_of(tmp_path / "inferred" / "label_maps")


def test_wrong_use(server: Server, deployment: Deployment, tmp_path: Path) -> None:
    url, images = server.url.removeprefix("http://"), ["--image_path", deployment.list]
    images += ["--save_dir", tmp_path]
    for flags, word in (
        (["--url", "127.0.0.1:9", "--name", "street"], "127.0.0.1:9"),
        (["--url", "127.0.0.1:9", "--protocol", "grpc"], "127.0.0.1:9"),
        (["--url", url, "--name", "other"], "API key"),
    ):
        done = call(CLIENT, *flags, *images)
        assert done.status == 2 and word in done.error_lines[0], done.err
    assert not (tmp_path / "label_maps").exists()


def test_an_image_that_fails_costs_the_others_nothing(
    server: Server, deployment: Deployment, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "bad.png").write_bytes(b"?")
    good = deployment.list.parent / "city1" / "frame.png"
    (tmp_path / "images.list").write_text(f"bad.png\n{good}\n")
    flags = ["--url", server.url.removeprefix("http://"), "--name", "street"]
    flags += ["--api_key_file", tmp_path / "key", "--image_path", tmp_path / "images.list"]
    done = call(CLIENT, *flags, "--save_dir", tmp_path / "out")
    assert done.status == 1 and "1 of 2 images" in done.error_lines[0]
    assert len(content_of(tmp_path / "out")) == 1
