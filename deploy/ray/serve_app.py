"""The HTTP service on Ray Serve: the same routes and answers, replicated over a cluster.

  serve run deploy.ray.serve_app:build config=bundle/deploy.yaml replicas=2
  serve run deploy.ray.serve_app:build config=bundle/deploy.yaml replica_gpus=1 api_key_file=key.txt

Arguments: replicas and replica_gpus (GPUs of each, 0.5 lets two share one); config (deploy.yaml)
and api_key_file, both on every node; and, named as the flags of `paddleseg-ext serve` and
explained there: backend, device, precision, num_classes, cpu_threads, queue_size, max_batch,
max_wait_ms, deadline, max_mib, max_megapixels; allowed_host takes names separated by commas. Where
to listen is Ray's to say (serve start).
"""

from typing import Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt
from ray import serve
from ray.serve import Application

from deploy.ray.machine import warn_of_old_opencv
from paddleseg_ext.commands.serve import MIB, read_api_key
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import warn
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.class_table import find_class_table
from paddleseg_ext.inference.engines.base import probe_batch
from paddleseg_ext.serving.app import create_app
from paddleseg_ext.serving.backend import open_service_backend
from paddleseg_ext.serving.hosts import EVERYWHERE, allowed_hosts
from paddleseg_ext.serving.images import ImageLimits
from paddleseg_ext.serving.service import SegmentationService, ServiceSettings


class Arguments(BaseModel):
    """What `serve run` takes behind the application's name."""

    model_config = ConfigDict(extra="forbid")
    config: str
    backend: Literal["auto", "paddle", "paddle_onednn", "onnxruntime", "openvino"] = "auto"
    device: Literal["cpu", "gpu"] | None = None  # gpu with replica_gpus, else cpu
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    num_classes: PositiveInt | None = None
    cpu_threads: PositiveInt = 1
    replicas: PositiveInt = 1
    replica_gpus: NonNegativeFloat = 0
    api_key_file: str | None = None
    allowed_host: str = ""
    queue_size: PositiveInt = 16
    max_batch: PositiveInt = 1
    max_wait_ms: NonNegativeFloat = 5
    deadline: PositiveFloat = 30
    max_mib: PositiveFloat = 16
    max_megapixels: PositiveFloat = 8.4


def load(arguments: Arguments) -> FastAPI:
    """The application of one replica.

    Raises:
        UsageError: no such bundle or key, or what the backend cannot do.
    """
    from paddleseg_ext.common.machine import fix_thread_count

    warn_of_old_opencv()
    # Read here, by each replica: as an argument the key would stand in Ray's own records.
    api_key = read_api_key(arguments.api_key_file)
    if api_key is None:
        warn("no api_key_file: whoever reaches Ray Serve's port may use the service")
    threads = fix_thread_count(arguments.cpu_threads)
    device = device_of(arguments)
    bundle = read_bundle(arguments.config)
    backend = open_service_backend(bundle, arguments.backend, arguments.precision, threads, device)
    table = find_class_table(bundle, backend, arguments.num_classes)
    backend.run(probe_batch(bundle.input_shape, bundle.input_dtype))  # the first run is slow
    limits = ImageLimits(int(arguments.max_mib * MIB), int(arguments.max_megapixels * 1e6))
    settings = ServiceSettings(
        limits=limits,
        max_batch=arguments.max_batch,
        max_wait_ms=arguments.max_wait_ms,
        queue_size=arguments.queue_size,
        deadline_s=arguments.deadline,
    )
    named = [name for name in arguments.allowed_host.split(",") if name]
    names = allowed_hosts(EVERYWHERE[0], named, api_key is not None)
    return create_app(SegmentationService(bundle, backend, table, settings), api_key, names)


def device_of(arguments: Arguments) -> str:
    """`cpu` or `gpu`.

    Raises:
        UsageError: a GPU was asked for, and Ray gives the replica none.
    """
    device = arguments.device or ("gpu" if arguments.replica_gpus else "cpu")
    if device == "gpu" and not arguments.replica_gpus:
        raise UsageError(
            "device=gpu: Ray hides the GPUs from a replica that asks for none; "
            "give replica_gpus=1, or a share of one"
        )
    return device


def build(arguments: Arguments) -> Application:
    """What `serve run` starts; each replica loads its own predictor.

    Raises:
        UsageError: arguments that do not go together.
    """
    device_of(arguments)

    @serve.ingress(lambda: load(arguments))
    class Segmentation:
        """A replica."""

    deployment: serve.Deployment = serve.deployment(
        num_replicas=arguments.replicas,
        # The service bounds its own queue and answers 503 itself.
        max_ongoing_requests=2 * arguments.queue_size,
        ray_actor_options={
            "num_cpus": arguments.cpu_threads,
            "num_gpus": arguments.replica_gpus,
        },
    )(Segmentation)
    return deployment.bind()
