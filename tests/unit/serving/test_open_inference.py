"""The Open Inference Protocol v2 over the service."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.serving import open_inference, tensors
from paddleseg_ext.serving.app import create_app
from paddleseg_ext.serving.service import SegmentationService
from paddleseg_ext.serving.tensors import HEADER_LENGTH

from .conftest import LIMITS, brightness_classes, noise

MakeService = Callable[..., SegmentationService]
MODEL = "/v2/models/segmentation"
KEY = "0123456789abcdef"


@pytest.fixture
def client(make_service: MakeService) -> Iterator[TestClient]:
    with TestClient(create_app(make_service())) as made:
        yield made


def image_of(pixels: np.ndarray, **changes: Any) -> dict[str, Any]:
    shape, data = list(pixels.shape), pixels.ravel().tolist()
    return {"name": "image", "datatype": "UINT8", "shape": shape, "data": data} | changes


def as_bytes(pixels: np.ndarray, **header: Any) -> dict[str, Any]:
    """A request whose image follows the JSON."""
    entry = image_of(pixels, parameters={"binary_data_size": pixels.nbytes})
    del entry["data"]
    text = json.dumps({"inputs": [entry], **header}).encode()
    return {"content": text + pixels.tobytes(), "headers": {HEADER_LENGTH: str(len(text))}}


def test_what_the_server_says_of_itself(client: TestClient) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    for path in ("/v2/health/ready", f"{MODEL}/ready"):
        assert client.get(path).json() == {"ready": True}
    server = client.get("/v2").json()
    assert server["name"] == "paddleseg_ext" and "binary_tensor_data" in server["extensions"]
    model = client.get(MODEL).json()
    assert (model["name"], model["versions"]) == ("segmentation", ["1"])
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert [entry["name"] for entry in model["outputs"]] == ["labels", "confidence"]


def test_the_version_may_be_named(client: TestClient) -> None:
    body = {"inputs": [image_of(noise(20, 30)[None])]}
    versioned = f"{MODEL}/versions/1"
    assert client.get(versioned).json() == client.get(MODEL).json()
    assert client.get(f"{versioned}/ready").json() == {"ready": True}
    answers = [client.post(f"{path}/infer", json=body).json() for path in (MODEL, versioned)]
    assert answers[0] == answers[1] and answers[0]["model_version"] == "1"
    assert client.get(f"{MODEL}/versions/2").status_code == 404


def test_numbers_in_and_out(client: TestClient) -> None:
    pixels = noise(20, 30)[None]
    for data in (pixels.ravel().tolist(), pixels.tolist()):  # flat, and nested
        body = {"id": "seven", "inputs": [image_of(pixels, data=data)]}
        answer = client.post(f"{MODEL}/infer", json=body).json()
        assert (answer["model_name"], answer["id"]) == ("segmentation", "seven")
        (labels,) = answer["outputs"]
        assert (labels["name"], labels["datatype"]) == ("labels", "UINT8")
        found = np.array(labels["data"]).reshape(labels["shape"])
        np.testing.assert_array_equal(found[0], brightness_classes(pixels[0]))


def test_bytes_in_and_out(client: TestClient, make_service: MakeService) -> None:
    pixels = np.stack([noise(20, 30, seed=seed) for seed in range(2)])
    outputs = [{"name": "confidence"}, {"name": "labels", "parameters": {"binary_data": False}}]
    asked = as_bytes(pixels, outputs=outputs, parameters={"binary_data_output": True})
    answer = client.post(f"{MODEL}/infer", **asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[HEADER_LENGTH])
    confidence, labels = json.loads(answer.content[:length])["outputs"]
    assert confidence["parameters"] == {"binary_data_size": 2 * 20 * 30 * 4}
    maps = np.array(labels["data"]).reshape(labels["shape"])
    found = np.frombuffer(answer.content[length:], np.float32).reshape(confidence["shape"])
    predictor = make_service().predictor.with_outputs({"confidence"})
    for image, label_map, certain in zip(pixels, maps, found, strict=True):
        np.testing.assert_array_equal(label_map, brightness_classes(image))
        np.testing.assert_array_equal(certain, predictor(image).confidence)


SMALL = noise(4, 5)[None]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ([], 400, "a JSON object is expected"),
        ({}, 400, "inputs: a list of objects"),
        ({"inputs": []}, 422, "one tensor 'image' is expected, got none"),
        ({"inputs": [image_of(SMALL)] * 2}, 422, "one tensor"),
        ({"inputs": [image_of(SMALL, name="x")]}, 422, "got 'x'"),
        ({"inputs": [image_of(SMALL, name="\udc80")]}, 422, r"got '\udc80'"),
        ({"inputs": [image_of(SMALL, datatype="FP32")]}, 422, "UINT8 is expected"),
        ({"inputs": [image_of(SMALL, shape=[4, 5, 3])]}, 422, "[images, height, width, 3]"),
        ({"inputs": [image_of(SMALL, shape=[1, 4, 5, 1])]}, 422, "[images, height, width, 3]"),
        ({"inputs": [image_of(SMALL, shape=[1, 0, 5, 3])]}, 422, "[images, height, width, 3]"),
        ({"inputs": [image_of(SMALL, shape=[1, 10**30, 5, 3])]}, 400, "numbers from 0 to 255"),
        ({"inputs": [image_of(SMALL, data=[1, 2])]}, 400, "got 2 values"),
        ({"inputs": [image_of(SMALL, data=[[1], [2, 3]])]}, 400, "whole numbers"),
        ({"inputs": [image_of(SMALL, data=[256] * 60)]}, 400, "from 0 to 255"),
        ({"inputs": [image_of(SMALL, data=[0.5] * 60)]}, 400, "whole numbers"),
        ({"inputs": [image_of(SMALL, data={"a": 1})]}, 400, "whole numbers"),
        ({"inputs": [image_of(SMALL, data=[True] * 60)]}, 400, "whole numbers"),
        ({"inputs": [image_of(SMALL, data=[2**70] * 60)]}, 400, "whole numbers"),
        ({"inputs": [image_of(SMALL)], "id": 7}, 400, "id: a text"),
        ({"inputs": [image_of(SMALL)], "outputs": [{"name": "masks"}]}, 422, "labels and conf"),
        ({"inputs": [image_of(SMALL)], "outputs": 7}, 400, "outputs: a list"),
        (
            {"inputs": [image_of(SMALL)], "parameters": {"binary_data_output": "no"}},
            400,
            "binary_data_output: true or false is expected, got 'no'",
        ),
        (
            {
                "inputs": [image_of(SMALL)],
                "outputs": [{"name": "labels", "parameters": {"binary_data": 0}}],
            },
            400,
            "binary_data: true or false is expected, got 0",
        ),
        (
            {"inputs": [image_of(SMALL, parameters={"shared_memory_region": "x"})]},
            422,
            "shared memory",
        ),
        ({"inputs": [image_of(SMALL, parameters={"binary_data_size": 60})]}, 400, "must be equal"),
    ],
)
def test_refusals(body: Any, status: int, sentence: str, client: TestClient) -> None:
    answer = client.post(f"{MODEL}/infer", content=json.dumps(body))
    assert answer.status_code == status and sentence in answer.json()["error"]


def test_a_long_text_among_numbers_takes_no_memory_of_its_own_per_number(
    client: TestClient,
) -> None:
    pixels = np.zeros((1, 100, 1000, 3), np.uint8)
    data = [0] * (pixels.size - 1) + ["x" * 1_000_000]  # as texts of one length: 1.2 TB
    answer = client.post(f"{MODEL}/infer", json={"inputs": [image_of(pixels, data=data)]})
    assert answer.status_code == 400 and "whole numbers" in answer.json()["error"]


def test_a_body_that_waits_to_be_parsed_has_a_place(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service(queue_size=1)
    admitted: list[int] = []

    def note(body: bytes, header_length: str | None) -> tensors.InferRequest:
        admitted.append(service._admitted)
        return tensors.read_infer_request(body, header_length)

    monkeypatch.setattr(open_inference, "read_infer_request", note)
    with TestClient(create_app(service)) as client:
        assert client.post(f"{MODEL}/infer", **as_bytes(SMALL)).status_code == 200
    assert admitted == [1] and service._admitted == 0


def test_refusals_of_bodies(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(status: int, sentence: str, **request: Any) -> None:
        answer = client.post(f"{MODEL}/infer", **request)
        assert answer.status_code == status and sentence in answer.json()["error"], answer.text

    refused(400, "cannot be read", content=b"?")
    refused(400, "deeper", content=b"[" * 100_000)
    whole = as_bytes(SMALL)
    refused(400, "must be equal", content=whole["content"][:-1], headers=whole["headers"])
    for length in ("x", "-1", "9" * 5000, "99999"):
        refused(400, HEADER_LENGTH, content=whole["content"], headers={HEADER_LENGTH: length})
    most = tensors.MOST_JSON_BYTES
    refused(413, "send the image as bytes", content=b" " * (most + 1))
    refused(413, "body of at most", content=b" " * (most + 3 * LIMITS.max_pixels + 1))
    refused(413, "pixels", **as_bytes(noise(400, 300)[None]))  # within the body, not as an image
    refused(413, "at most 4 images", **as_bytes(np.stack([noise(4, 5)] * 5)))
    monkeypatch.setattr(tensors, "MOST_JSON_VALUES", 19)
    refused(422, "binary_data true", **as_bytes(SMALL))
    missing = client.post("/v2/models/other/infer", json={})
    assert missing.status_code == 404 and "'segmentation'" in missing.json()["error"]


def test_a_graph_without_scores_has_no_confidence(make_service: MakeService) -> None:
    service = make_service()
    service.predictor.postprocess = Postprocess("argmax")
    with TestClient(create_app(service)) as client:
        assert [entry["name"] for entry in client.get(MODEL).json()["outputs"]] == ["labels"]
        body = {"inputs": [image_of(SMALL)], "outputs": [{"name": "confidence"}]}
        answer = client.post(f"{MODEL}/infer", json=body)
    assert answer.status_code == 422 and "--output_op none" in answer.json()["error"]


def test_the_key_and_another_name(make_service: MakeService) -> None:
    service = make_service(model_name="street")
    with TestClient(create_app(service, KEY)) as client:
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/street/ready"):
            assert client.get(path).status_code == 200
        for path in ("/v2", "/v2/models/street"):
            assert client.get(path).status_code == 401
        body = {"inputs": [image_of(SMALL)]}
        assert client.post("/v2/models/street/infer", json=body).status_code == 401
        headers = {"Authorization": f"Bearer {KEY}"}
        found = client.post("/v2/models/street/infer", json=body, headers=headers)
        assert found.status_code == 200
        text = client.get("/metrics", headers=headers).text
    assert 'path="/v2/models/street/infer",status="200"' in text


def test_not_ready(make_service: MakeService) -> None:
    service = make_service()
    with TestClient(create_app(service)) as client:
        service._batcher.close()
        for path in ("/v2/health/ready", f"{MODEL}/ready"):
            assert client.get(path).status_code == 503
        assert client.get("/v2/health/live").status_code == 200
