"""The HTTP side, on a network that needs no framework."""

import asyncio
import base64
import io
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.images.reading import decode_image
from paddleseg_ext.inference.outputs import encode_overlay
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.scoring.protocols import PROTOCOLS
from paddleseg_ext.serving.app import create_app
from paddleseg_ext.serving.images import Refused
from paddleseg_ext.serving.requests import Arriving
from paddleseg_ext.serving.service import SegmentationService

from .conftest import LIMITS, TABLE, BrightnessNetwork, brightness_classes, encode, noise, png

MakeService = Callable[..., SegmentationService]
KEY = "0123456789abcdef"


def labels_of(content: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(content))
    assert picture.mode == "P"
    return np.asarray(picture)


def together(app: FastAPI, work: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    """Run requests at a time; the service is closed at the end."""

    async def run() -> Any:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await work(client)

    return asyncio.run(run())


def test_the_three_outputs(make_service: MakeService) -> None:
    content = png()
    image = decode_image(content, "x")
    expected = brightness_classes(image)
    with TestClient(create_app(make_service())) as client:
        labels = client.post("/v1/segment", content=content)
        assert labels.status_code == 200 and labels.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(labels_of(labels.content), expected)
        stages = [part.partition(";")[0] for part in labels.headers["server-timing"].split(", ")]
        assert stages == ["decode", "preprocess", "queue", "network", "postprocess", "encode"]

        overlay = client.post("/v1/segment?output=overlay", files={"image": content})
        assert overlay.headers["content-type"] == "image/jpeg"
        assert overlay.content == encode_overlay(image, expected.astype(np.uint8), TABLE)

        answer = client.post("/v1/segment?output=json", files={"any_name": content}).json()
    assert answer["size"] == {"width": 30, "height": 20} == answer["network_size"]
    counts = np.bincount(expected.ravel(), minlength=3)
    assert [entry["pixels"] for entry in answer["classes"]] == counts.tolist()
    assert [entry["name"] for entry in answer["classes"]] == ["dark", "grey", "bright"]
    assert sum(entry["share"] for entry in answer["classes"]) == pytest.approx(1)


def test_confidence_and_its_shares(make_service: MakeService) -> None:
    content = png()
    service = make_service()
    expected = service.predictor.with_outputs({"confidence"})(decode_image(content, "x")).confidence
    assert expected is not None
    with TestClient(create_app(service)) as client:
        plain = client.post("/v1/segment?output=json", content=content).json()
        answer = client.post("/v1/segment?output=confidence", content=content)
        shares = client.post("/v1/segment?output=json&confidence=true", content=content).json()
        files = [("images", content)]
        batch = client.post("/v1/segment:batch?output=confidence", files=files).json()
    assert answer.headers["content-type"] == "image/png"
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    np.testing.assert_array_equal(picture, np.rint(expected * 255))
    assert plain["confidence"] is None and shares["classes"] == plain["classes"]
    assert shares["confidence"]["mean"] == pytest.approx(expected.mean())
    below = {str(p): pytest.approx((expected < p).mean()) for p in (0.5, 0.7, 0.9)}
    assert shares["confidence"]["shares_below"] == below
    (item,) = batch["results"]
    assert base64.b64decode(item["image_base64"]) == answer.content
    assert item["answer"]["confidence"] == shares["confidence"]


@pytest.mark.parametrize("asked", ["output=confidence", "confidence=true", "unknown_below=0.6"])
def test_a_protocol_without_confidence_is_refused(make_service: MakeService, asked: str) -> None:
    """It gave the softmax of sums of probabilities, which is near one over the classes."""
    service = make_service()
    service.predictor = by_protocol(service.predictor, PROTOCOLS["half_resize"])
    with TestClient(create_app(service)) as client:
        refused = client.post(f"/v1/segment?{asked}", content=png())
        model = f"/v2/models/{service.settings.model_name}"
        outputs = client.get(model).json()["outputs"]
    assert refused.status_code == 422 and "protocol half_resize" in refused.json()["error"]
    assert [output["name"] for output in outputs] == ["labels"]


def test_unknown_below(make_service: MakeService) -> None:
    """As the predictor marks them; the shares of classes and unknown make one."""
    content, service = png(), make_service()
    careful = service.predictor.with_outputs(unknown_below=0.999)
    expected = careful(decode_image(content, "x"))
    assert 0 < expected.unknown_pixels < expected.label_map.size
    with TestClient(create_app(service)) as client:
        labels = client.post("/v1/segment?unknown_below=0.999", content=content).content
        answer = client.post("/v1/segment?output=json&unknown_below=0.999", content=content).json()
        plain = client.post("/v1/segment?output=json", content=content).json()
        overlay = client.post("/v1/segment?output=overlay&unknown_below=0.999", content=content)
        files = [("images", content)]
        batch = client.post("/v1/segment:batch?unknown_below=0.999", files=files).json()
        for wrong in ("0", "1", "nan", "x"):
            refused = client.post(f"/v1/segment?unknown_below={wrong}", content=content)
            assert refused.status_code == 422 and "unknown_below" in refused.json()["error"]
    np.testing.assert_array_equal(labels_of(labels), expected.label_map)
    assert overlay.content == encode_overlay(
        expected.image, expected.label_map, expected.class_table
    )
    assert answer["unknown"]["id"] == 254
    assert answer["unknown"]["pixels"] == expected.unknown_pixels
    shares = sum(entry["share"] for entry in answer["classes"])
    assert shares + answer["unknown"]["share"] == pytest.approx(1)
    assert plain["unknown"] is None and answer["confidence"] is None
    assert batch["results"][0]["answer"]["unknown"] == answer["unknown"]


def test_confidence_of_a_graph_that_ends_in_argmax(make_service: MakeService) -> None:
    service = make_service()
    service.predictor.postprocess = Postprocess("argmax")
    with TestClient(create_app(service)) as client:
        for flags in ("output=confidence", "output=json&confidence=true", "unknown_below=0.5"):
            answer = client.post(f"/v1/segment?{flags}", content=png())
            assert answer.status_code == 422 and "--output_op none" in answer.json()["error"]


def test_the_page_of_the_interface_needs_no_network(make_service: MakeService) -> None:
    with TestClient(create_app(make_service(), api_key=KEY)) as client:
        answer = client.get("/docs")
        paths = client.get("/openapi.json").json()["paths"]
    assert answer.status_code == 200
    for path in paths:
        assert f" {path}</code>" in answer.text
    assert "(default: labels)" in answer.text
    assert "Authorization: Bearer KEY" in answer.text
    assert "<script" not in answer.text
    assert "http" not in answer.text.replace("HTTP", "").partition("</head>")[2]
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "style-src 'sha256-" in policy


def test_upright_on_demand(make_service: MakeService) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6
    content = encode(Image.fromarray(noise(20, 30)), "PNG", exif=tag)
    with TestClient(create_app(make_service())) as client:
        stored = labels_of(client.post("/v1/segment", content=content).content)
        upright = client.post("/v1/segment?orientation=upright", content=content).content
    np.testing.assert_array_equal(labels_of(upright), np.rot90(stored, -1))


def test_a_bad_image_of_a_batch_costs_the_others_nothing(make_service: MakeService) -> None:
    files = [
        ("images", (f"{i}.png", content)) for i, content in enumerate((png(), b"?", png(9, 8)))
    ]
    with TestClient(create_app(make_service())) as client:
        response = client.post("/v1/segment:batch?output=labels", files=files)
    assert response.status_code == 200
    good, bad, small = response.json()["results"]
    assert [item["name"] for item in (good, bad, small)] == ["0.png", "1.png", "2.png"]
    assert bad["status"] == 415 and "is expected" in bad["error"] and bad["answer"] is None
    assert small["answer"]["size"] == {"width": 8, "height": 9}
    decoded = labels_of(base64.b64decode(good["image_base64"]))
    np.testing.assert_array_equal(decoded, brightness_classes(decode_image(png(), "x")))


@pytest.mark.parametrize(
    ("path", "request_", "status", "sentence"),
    [
        ("/v1/segment", {"content": b""}, 400, "the body is empty"),
        ("/v1/segment", {"content": b"x" * (LIMITS.max_bytes + 1)}, 413, "bytes"),
        ("/v1/segment?output=video", {"content": png()}, 422, "output: "),
        ("/v1/segment", {"content": png(), "headers": {"Content-Encoding": "gzip"}}, 415, "Enc"),
        ("/v1/segment", {"data": {"image": "text"}, "files": {}}, 415, "is expected"),
        ("/v1/segment", {"files": [("a", png()), ("b", png())]}, 400, "Too many files"),
        ("/v1/segment:batch", {"content": png()}, 415, "multipart/form-data"),
        ("/v1/segment:batch", {"files": [("a", png())] * 5}, 400, "Too many files"),
        (
            "/v1/segment:batch",
            {"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data"}},
            400,
            "boundary",
        ),
        (
            "/v1/segment:batch",
            {
                "content": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
                "headers": {"Content-Type": "multipart/form-data; boundary=x"},
            },
            400,
            "there is none",
        ),
        ("/nothing", {"content": png()}, 404, "Not Found"),
        ("/v1/model", {"content": png()}, 405, "Method Not Allowed"),
    ],
)
def test_wrong_requests(
    path: str, request_: dict, status: int, sentence: str, make_service: MakeService
) -> None:
    with TestClient(create_app(make_service())) as client:
        response = client.post(path, **request_)
    assert response.status_code == status, response.text
    assert sentence in response.json()["error"]


def test_a_full_queue_refuses_at_once_and_finishes_what_it_took(
    make_service: MakeService, network: BrightnessNetwork
) -> None:
    service = make_service(queue_size=3)
    network.may_run.clear()

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        taken = [asyncio.create_task(client.post("/v1/segment", content=png())) for _ in range(3)]
        await asyncio.sleep(0.1)
        start = asyncio.get_running_loop().time()
        refused = await client.post("/v1/segment", content=png())
        assert asyncio.get_running_loop().time() - start < 1
        batch = await client.post("/v1/segment:batch", files=[("a", png())] * 2)
        network.may_run.set()
        return [refused, batch, *await asyncio.gather(*taken)]

    refused, batch, *taken = together(create_app(service), work)
    for response in (refused, batch):
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        assert "queue is full" in response.json()["error"]
    assert [response.status_code for response in taken] == [200, 200, 200]
    service.close()


def test_places_are_given_back(make_service: MakeService) -> None:
    service = make_service(queue_size=1)
    with TestClient(create_app(service)) as client:
        for content in (png(), b"?", b"", png(), png(9, 9)):
            client.post("/v1/segment", content=content)
        assert client.post("/v1/segment", content=png()).status_code == 200
        assert "segmentation_images_in_service 0.0" in client.get("/metrics").text


def test_the_deadline(make_service: MakeService, network: BrightnessNetwork) -> None:
    service = make_service(deadline=0.2)
    network.may_run.clear()

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        late = await client.post("/v1/segment", content=png())
        network.may_run.set()
        return [late, await client.post("/v1/segment", content=png())]

    late, after = together(create_app(service), work)
    assert late.status_code == 503 and "within the deadline of 0.2 s" in late.json()["error"]
    assert after.status_code == 200
    service.close()


def test_an_image_that_waited_for_others_may_come_again(
    make_service: MakeService, network: BrightnessNetwork
) -> None:
    """The first had the network for itself and would not be done in time again."""
    service = make_service(deadline=1.5)
    network.may_run.clear()

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        first = asyncio.create_task(client.post("/v1/segment", content=png()))
        await asyncio.sleep(0.7)
        second = asyncio.create_task(client.post("/v1/segment", content=png()))
        answers = [await first, await second]
        network.may_run.set()
        return answers

    first, second = together(create_app(service), work)
    assert first.status_code == second.status_code == 503
    assert "retry-after" not in first.headers and "a smaller image" in first.json()["error"]
    assert int(second.headers["retry-after"]) >= 1
    assert "others came before it" in second.json()["error"]
    service.close()


def test_a_request_past_its_deadline_does_not_run(
    make_service: MakeService, network: BrightnessNetwork
) -> None:
    """The second waited for the first; the network then runs for the third alone."""
    service = make_service(deadline=0.6)
    network.may_run.clear()

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        first = asyncio.create_task(client.post("/v1/segment", content=png()))
        await asyncio.sleep(0.2)
        second = asyncio.create_task(client.post("/v1/segment", content=png(22, 33)))
        answers = [await first, await second]
        third = asyncio.create_task(client.post("/v1/segment", content=png(44, 55)))
        await asyncio.sleep(0.1)
        network.may_run.set()
        return [*answers, await third]

    answers = together(create_app(service), work)
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert [shape[2:] for shape in network.batches] == [(20, 30), (44, 55)]
    service.close()


def test_who_sends_slowly_keeps_nobody_out(make_service: MakeService) -> None:
    """A place in the queue is for a whole body."""
    service = make_service(queue_size=2)

    async def slowly() -> Any:
        yield b"\x89PNG"
        await asyncio.sleep(0.5)

    async def work(client: httpx.AsyncClient) -> httpx.Response:
        slow = [asyncio.create_task(client.post("/v1/segment", content=slowly())) for _ in range(9)]
        await asyncio.sleep(0.1)
        answer = await client.post("/v1/segment", content=png())
        await asyncio.gather(*slow)
        return answer

    assert together(create_app(service), work).status_code == 200
    service.close()


def test_bytes_that_arrive_are_bounded_in_all() -> None:
    arriving = Arriving(10)
    arriving.take(4)
    with pytest.raises(Refused) as refusal:
        arriving.take(7)
    assert refusal.value.status == 503 and refusal.value.retry_after_s
    arriving.give_back(4)
    arriving.take(10)


def test_the_work_of_a_client_that_went_away_is_dropped(
    make_service: MakeService, network: BrightnessNetwork
) -> None:
    service = make_service()
    app = create_app(service)
    network.may_run.clear()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/segment",
        "query_string": b"",
        "headers": [],
        "app": app,
    }

    async def post(then: str) -> None:
        messages = iter([{"type": "http.request", "body": png()}, {"type": then}])

        async def receive() -> dict:
            message = next(messages)
            if message["type"] == "http.disconnect":
                await asyncio.sleep(0.05)  # so that the image waits for the network already
            return message

        async def send(_: dict) -> None:
            pass

        await app(scope, receive, send)

    async def run() -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://x"
        ) as client:
            stays = asyncio.create_task(client.post("/v1/segment", content=png(9, 9)))
            await asyncio.sleep(0.1)
            await asyncio.gather(*(post("http.disconnect") for _ in range(3)))
            network.may_run.set()
            assert (await stays).status_code == 200

    asyncio.run(run())
    service.close()
    assert network.batches == [(1, 3, 9, 9)]


class SlowClient:
    """ASGI's side of a client whose body never ends."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, dict]] = []
        self.start = time.monotonic()

    async def receive(self) -> dict:
        await asyncio.sleep(0.2)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(self, message: dict) -> None:
        self.sent.append((time.monotonic() - self.start, message))


def test_a_refusal_does_not_wait_for_who_sends_slowly(make_service: MakeService) -> None:
    """The answer is whole at once; what is still sent is read before the connection may close."""
    service = make_service()
    service.close()
    client = SlowClient()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/segment",
        "query_string": b"",
        "headers": [],
    }
    asyncio.run(create_app(service)(scope, client.receive, client.send))
    (_, start), (body_s, body), (end_s, end) = client.sent
    assert start["status"] == 503 and b'"error"' in body["body"] and body_s < 0.15
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    assert body["more_body"] and not end.get("more_body") and end["body"] == b"" and end_s > 0.2


@pytest.mark.parametrize("charset", ["unicode_escape", "raw_unicode_escape", "utf-7", "utf-16"])
def test_names_of_parts_are_anybodys(charset: str, make_service: MakeService) -> None:
    """Their charset may decode to what no JSON holds."""
    name = b"+2AA-.png" if charset == "utf-7" else b"\\ud800.png"
    disposition = b'--x\r\nContent-Disposition: form-data; name="a"; filename="' + name
    body = disposition + b'"\r\n\r\n' + png() + b"\r\n--x--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    with TestClient(create_app(make_service())) as client:
        response = client.post("/v1/segment:batch", content=body, headers=headers)
    assert response.status_code == 200, response.text
    assert response.json()["results"][0]["status"] == 200


def test_other_sites(make_service: MakeService) -> None:
    with TestClient(create_app(make_service(), None, frozenset(("localhost",)))) as client:
        for host, status in (("localhost:80", 200), ("127.0.0.1", 200), ("evil.example", 421)):
            for path in ("/", "/v1/model", "/healthz", "/metrics"):
                response = client.get(path, headers={"Host": host})
                assert response.status_code == status
                assert response.headers["x-content-type-options"] == "nosniff"
        for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
            headers = {"Host": "localhost", "Sec-Fetch-Site": site}
            response = client.post("/v1/segment", content=png(), headers=headers)
            assert response.status_code == status
            assert client.get("/", headers=headers).status_code == 200  # a link leads there
        # On a plain http address browsers send no Sec-Fetch-Site.
        for origin, status in (
            ("http://evil.example", 403),
            ("null", 403),
            ("http://localhost:9", 403),
            ("http://localhost", 200),
        ):
            headers = {"Host": "localhost", "Origin": origin}
            for path in ("/v1/segment", "/v1/segment_batch"):
                response = client.post(path, content=png(), headers=headers)
                assert (response.status_code == 403) is (status == 403)
            assert client.get("/", headers=headers).status_code == 200
    keyed = create_app(make_service(), KEY, frozenset(("localhost",)))
    with TestClient(keyed, base_url="http://localhost") as client:
        headers = {"Sec-Fetch-Site": "cross-site", "Authorization": f"Bearer {KEY}"}
        assert client.get("/v1/model", headers=headers).status_code == 200


def test_a_slow_sender(make_service: MakeService) -> None:
    service = make_service(deadline=0.2)

    async def slowly() -> Any:
        yield b"\x89PNG"
        await asyncio.sleep(1)
        yield b"more"

    response = together(
        create_app(service), lambda client: client.post("/v1/segment", content=slowly())
    )
    assert response.status_code == 408
    service.close()


def test_alike_images_run_together(make_service: MakeService, network: BrightnessNetwork) -> None:
    service = make_service(max_batch=4, max_wait_ms=2000.0, queue_size=8)

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        posts = [client.post("/v1/segment", content=png(seed=i)) for i in range(4)]
        return list(await asyncio.gather(*posts))

    for i, response in enumerate(together(create_app(service), work)):
        expected = brightness_classes(decode_image(png(seed=i), "x"))
        np.testing.assert_array_equal(labels_of(response.content), expected)
    assert network.batches == [(4, 3, 20, 30)]
    service.close()


def test_a_defect_of_the_network_is_one_500_and_the_next_is_answered(
    make_service: MakeService, network: BrightnessNetwork
) -> None:
    service = make_service()

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        network.is_broken = True
        broken = await client.post("/v1/segment", content=png())
        network.is_broken = False
        answers = [broken, await client.post("/v1/segment", content=png())]
        return [*answers, await client.get("/metrics")]

    broken, after, metrics = together(create_app(service), work)
    assert broken.status_code == 500 and "defect" in broken.json()["error"]
    assert broken.headers["x-content-type-options"] == "nosniff"
    assert after.status_code == 200
    assert 'requests_total{path="/v1/segment",status="500"} 1.0' in metrics.text
    service.close()


def test_the_api_key(make_service: MakeService) -> None:
    with TestClient(create_app(make_service(), KEY)) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}):
            for response in (
                client.post("/v1/segment", content=png(), headers=headers),
                client.get("/v1/model", headers=headers),
                client.get("/metrics", headers=headers),
            ):
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
        for path in ("/", "/healthz", "/readyz", "/samples/0.png", "/openapi.json"):
            assert client.get(path).status_code == 200
        right = {"Authorization": f"Bearer {KEY}"}
        assert client.post("/v1/segment", content=png(), headers=right).status_code == 200


def test_the_model_tells_its_manifest_and_no_folders(make_service: MakeService) -> None:
    with TestClient(create_app(make_service())) as client:
        model = client.get("/v1/model").json()
    assert model["network"] == "Brightness" and model["checkpoint"]["path"] == "best.pdparams"
    assert model["backend"]["name"] == "brightness"
    assert model["limits"]["max_pixels"] == LIMITS.max_pixels
    color = "#{:02x}{:02x}{:02x}".format(*TABLE.palette[2])
    assert model["classes"][2] == {"id": 2, "name": "bright", "color": color}


def test_metrics_count_answers_and_stages(make_service: MakeService) -> None:
    with TestClient(create_app(make_service())) as client:
        client.post("/v1/segment", content=png())
        client.post("/v1/segment", content=b"?")
        client.get("/any/path/a/client/makes/up")
        text = client.get("/metrics").text
    assert 'segmentation_requests_total{path="/v1/segment",status="200"} 1.0' in text
    assert 'segmentation_requests_total{path="/v1/segment",status="415"} 1.0' in text
    assert 'segmentation_requests_total{path="other",status="404"} 1.0' in text
    assert 'segmentation_stage_seconds_count{stage="network"} 1.0' in text
    assert "process_resident_memory_bytes" in text


def test_ready_until_closed(make_service: MakeService) -> None:
    service = make_service()
    with TestClient(create_app(service)) as client:
        assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}
        service.close()
        assert client.get("/readyz").status_code == 503
        assert client.post("/v1/segment", content=png()).status_code == 503
        assert client.get("/healthz").status_code == 200


def test_samples_are_images_and_end(make_service: MakeService) -> None:
    with TestClient(create_app(make_service())) as client:
        assert decode_image(client.get("/samples/0.png").content, "x").shape == (192, 384, 3)
        assert client.get("/samples/3.png").status_code == 422


def test_the_page_and_its_scripts_come_from_here(make_service: MakeService) -> None:
    with TestClient(create_app(make_service())) as client:
        page = client.get("/")
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert "Run it in this browser" not in page.text
        for name in re.findall(r'(?:src|href)="(static/[^"]+)"', page.text):
            assert client.get(f"/{name}").status_code == 200, name
        for name in ("view.js", "png.js"):  # imported by the others
            assert (
                client.get(f"/static/{name}").headers["Content-Type"].startswith("text/javascript")
            )
        for name in ("worker.js", "nothing.js", "..%2Ffolder.py"):
            assert client.get(f"/static/{name}").status_code == 404
        assert client.get("/browser/").status_code == 404


def test_the_browsers_page_is_isolated(make_service: MakeService, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("page")
    with TestClient(create_app(make_service(), web=tmp_path)) as client:
        assert 'href="browser/"' in client.get("/").text
        found = client.get("/browser/")
        assert found.text == "page"
        assert found.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert "wasm-unsafe-eval" in found.headers["Content-Security-Policy"]
