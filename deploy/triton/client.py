r"""Segment images on a server of the Open Inference Protocol v2: `paddleseg-ext serve`, or Triton.

Writes SAVE_DIR/label_maps/NAME.png (palette PNG, pixel value = class id, original size). An image
that fails is reported, the rest is done, and the exit status is 1.

  python deploy/triton/client.py --url 127.0.0.1:8080 --image_path street.png --save_dir out
  python deploy/triton/client.py --url 127.0.0.1:8001 --protocol grpc --name street \
      --config bundle/deploy.yaml --image_path images --save_dir out

`paddleseg-ext serve` takes images and returns label maps, over HTTP. A repository of
make_repository.py takes the network's input: then --config names its bundle, whose transforms and
way back to the image's size are done here.
"""

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import STATUS_DONE, CheckFailed, DataError, UsageError, run_command
from paddleseg_ext.common.files import require_writable
from paddleseg_ext.common.flags import positive_float
from paddleseg_ext.common.log import log
from paddleseg_ext.common.options import option, parse_options
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.common.progress import track
from paddleseg_ext.evaluation.bundle_protocol import by_its_rule
from paddleseg_ext.evaluation.prediction_run import check_inputs_stay, output_files
from paddleseg_ext.images.labels import MAX_CLASSES, generic_table
from paddleseg_ext.images.samples import collect_samples
from paddleseg_ext.inference.bundle import Bundle, read_bundle
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.outputs import LABEL_MAPS, save_label_map
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.serving.keys import read_api_key
from paddleseg_ext.serving.tensors import IMAGE, LABELS

NO_SERVER = "a server of the Open Inference Protocol v2 is expected there"


@dataclass(frozen=True)
class ClientOptions:
    """Options of the client."""

    url: str = option(MISSING, "host and port of the server", metavar="HOST:PORT")
    image_path: str = option(MISSING, "an image, a folder, or a list of images", metavar="PATH")
    save_dir: Path = option(MISSING, "folder of the results", metavar="DIR")
    protocol: Literal["http", "grpc"] = option("http", "grpc is Triton's only")
    name: str = option("segmentation", "of the model")
    config: str | None = option(
        None,
        "deploy.yaml of the bundle: needed for Triton; for `serve` it gives colours and how files "
        "are read",
        metavar="YAML",
    )
    api_key_file: str | None = option(None, "its first line is the service's key", metavar="FILE")
    timeout: float = option(60.0, "seconds for an image", parse=positive_float)


def main(argv: list[str] | None = None) -> int:
    """Segment every image.

    Raises:
        UsageError: wrong flags, or a server that cannot be reached or has another model.
        CheckFailed: some images could not be segmented.
    """
    options = parse_options(ClientOptions, __doc__ or "", argv)
    key = read_api_key(options.api_key_file)
    bundle = read_bundle(options.config) if options.config else None
    samples = collect_samples(options.image_path)
    require_writable(options.save_dir, "--save_dir")
    check_inputs_stay(samples, output_files(samples, options.save_dir))
    predictor = predictor_of(Remote(options, key), bundle)
    failed = 0
    for prediction in track(predictor.stream(samples), "segmenting", total=len(samples)):
        if prediction.segmentation is None:
            failed += 1
            log(prediction.error or f"{prediction.sample.image}: no prediction", "ERROR")
            continue
        path = options.save_dir / LABEL_MAPS / f"{prediction.sample.name}.png"
        save_label_map(prediction.segmentation.label_map, path, predictor.class_table)
    log(f"[CLIENT] {len(samples) - failed} label maps below {options.save_dir / LABEL_MAPS}")
    if failed:
        raise CheckFailed(f"{failed} of {len(samples)} images could not be segmented")
    return STATUS_DONE


def predictor_of(remote: "Remote", bundle: Bundle | None) -> Predictor:
    """The predictor whose engine is the server's model.

    Raises:
        UsageError: the model is another one than the bundle's, or needs a bundle.
    """
    table = bundle.manifest.class_table if bundle and bundle.manifest else None
    table = table or generic_table(MAX_CLASSES)
    if remote.takes_images:
        orientation = bundle.preprocess().orientation if bundle else "stored"
        preprocess = Preprocess([], input_dtype="uint8", orientation=orientation)
        return Predictor(remote, preprocess, Postprocess("argmax"), table)
    if bundle is None:
        raise UsageError(
            f"--config: the model '{remote.name}' takes the network's input; name the deploy.yaml "
            "of its bundle, whose transforms make it"
        )
    expected = bundle.manifest.checkpoint.get("sha256") if bundle.manifest else None
    found = remote.checkpoint()
    if expected and found and expected != found:
        raise UsageError(
            f"--config: {bundle.deploy_file} is of checkpoint {expected[:12]}, the server's model "
            f"of {found[:12]}; name the bundle that the repository was made from"
        )
    steps = (bundle.preprocess(), bundle.postprocess())
    return by_its_rule(Predictor(remote, *steps, table, bundle=bundle))


class Remote(Engine):
    """A model on a server.

    Attributes:
        name: of the model.
        takes_images: whether it is `paddleseg-ext serve`'s, from images to label maps.
    """

    title = "the server"

    def __init__(self, options: ClientOptions, api_key: str | None):
        """
        Raises:
            UsageError: the server cannot be reached, or has no such model.
        """
        self.name = options.name
        self._options = options
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        with optional_imports("client", "triton"):
            self._library: Any = importlib.import_module(f"tritonclient.{options.protocol}")
        self._threads = threading.local()  # its HTTP client belongs to the thread that made it
        described = self._ask("get_model_metadata")
        self._input, self._output = (
            self._first_of(described, key) for key in ("inputs", "outputs")
        )
        self.takes_images = (self._input["name"], self._output["name"]) == (IMAGE, LABELS)

    def checkpoint(self) -> str | None:
        """The checkpoint's sha256 that Triton's configuration names; None where it names none."""
        answer = self._ask("get_model_config")
        found: Any = answer.get("config", answer)
        for key in ("parameters", "checkpoint_sha256", "string_value"):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, str) else None

    def run(self, batch: NDArray) -> NDArray:
        """See `Engine.run`.

        Raises:
            DataError: the server refuses the images, or does not answer.
        """
        sent = np.ascontiguousarray(batch.transpose(0, 2, 3, 1) if self.takes_images else batch)
        tensor = self._library.InferInput(self._input["name"], sent.shape, self._input["datatype"])
        tensor.set_data_from_numpy(sent)
        output = self._library.InferRequestedOutput(self._output["name"])
        with self._errors(DataError):
            answer = self._client.infer(
                self.name, [tensor], outputs=[output], headers=dict(self._headers), **self._limit()
            )
            found: NDArray | None = answer.as_numpy(self._output["name"])
        if found is None:
            raise DataError(f"{self._place}: the answer has no tensor '{self._output['name']}'")
        return found

    def describe(self) -> RuntimeReport:
        """See `Engine.describe`; the server does not say what runs."""
        return RuntimeReport(f"{self._options.protocol}://{self._options.url}")

    @property
    def _client(self) -> Any:
        if not hasattr(self._threads, "client"):
            options, seconds = self._options, {}
            if options.protocol == "http":
                seconds = {
                    "connection_timeout": options.timeout,
                    "network_timeout": options.timeout,
                }
            with self._errors(UsageError):
                self._threads.client = self._library.InferenceServerClient(options.url, **seconds)
        return self._threads.client

    def _limit(self) -> dict[str, Any]:
        return {"client_timeout": self._options.timeout} if self._is_grpc else {}

    @property
    def _is_grpc(self) -> bool:
        return self._options.protocol == "grpc"

    def _ask(self, question: str) -> dict[str, Any]:
        more = {"as_json": True, **self._limit()} if self._is_grpc else {}
        with self._errors(UsageError):
            answer = getattr(self._client, question)(self.name, headers=dict(self._headers), **more)
        if not isinstance(answer, dict):
            raise UsageError(f"{self._place}: {NO_SERVER}")
        return answer

    def _first_of(self, described: dict[str, Any], key: str) -> dict[str, Any]:
        """The first tensor of the model's inputs or outputs."""
        found = described.get(key)
        first = found[0] if isinstance(found, list) and found else None
        if not isinstance(first, dict) or not {"name", "datatype"} <= first.keys():
            raise UsageError(f"{self._place}: it names no {key}: {NO_SERVER}")
        return first

    @property
    def _place(self) -> str:
        return f"{self._options.protocol}://{self._options.url}: {self.name}"

    @contextmanager
    def _errors(self, kind: type[UsageError]) -> Iterator[None]:
        """Errors of the client library, and of the network, as one line."""
        try:
            yield
        except MemoryError:
            raise
        # Beside its own, those of the HTTP library below it, which have no common type.
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise kind(f"{self._place}: {reason[0]}") from error


if __name__ == "__main__":
    run_command(main)
