"""The HTTP service on Ray Serve: the same routes and answers, replicated over a cluster.

  serve run deploy.ray.serve_app:build config=bundle/deploy.yaml replicas=2
  serve run deploy.ray.serve_app:build config=bundle/deploy.yaml replica_gpus=1 api_key_file=key.txt

Arguments: replicas and replica_gpus (GPUs of each, 0.5 lets two share one); config (deploy.yaml)
and api_key_file, both on every node; and, named as the flags of `paddleseg-ext serve` and
explained there: backend, device, precision, num_classes, cpu_threads, queue_size, max_batch,
max_wait_ms, deadline, max_mib, max_megapixels, model_name; allowed_host takes names separated by
commas. Ray's own settings say where to listen (serve start).
"""

import argparse
from dataclasses import fields
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BeforeValidator, ConfigDict, NonNegativeFloat, PositiveInt, create_model
from ray import serve
from ray.serve import Application

from deploy.ray.machine import warn_of_old_opencv
from paddleseg_ext.commands.runtime_flags import RuntimeFlags, runtime_of
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.serving.app import create_app
from paddleseg_ext.serving.hosts import EVERYWHERE, allowed_hosts
from paddleseg_ext.serving.keys import read_api_key
from paddleseg_ext.serving.options import ServeOptions, ServiceSettings
from paddleseg_ext.serving.server import open_service

# Options of `serve` that a replica has, too; where to listen is set in Ray.
SHARED = {
    ServeOptions: ("api_key_file", "num_classes", *(f.name for f in fields(ServiceSettings))),
    RuntimeFlags: ("backend", "device", "precision"),
}


def _field(options: type, name: str) -> tuple[Any, Any]:
    """A pydantic field with the default and the checks of an option of `serve`."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, options, skip=[f.name for f in fields(options) if f.name != name])
    default = parser.get_default(name)

    def read(value: Any) -> Any:
        if value is None and default is None:
            return None
        try:
            return getattr(parser.parse_args([f"--{name}={value}"]), name)
        except argparse.ArgumentError as error:
            raise ValueError(error.message) from None

    return Annotated[Any, BeforeValidator(read)], default


_FIELDS = {name: _field(options, name) for options, names in SHARED.items() for name in names}


class Arguments(create_model("Shared", **_FIELDS)):
    """The arguments that `serve run` takes behind the application's name."""

    model_config = ConfigDict(extra="forbid")
    config: str
    cpu_threads: PositiveInt = 1
    replicas: PositiveInt = 1
    replica_gpus: NonNegativeFloat = 0
    allowed_host: str = ""


def load(arguments: Arguments) -> FastAPI:
    """The application of one replica.

    Raises:
        UsageError: no such bundle or key, or a runtime that cannot run here.
    """
    warn_of_old_opencv()
    # Read here, by each replica: as an argument the key would be in Ray's own records.
    api_key = read_api_key(arguments.api_key_file)
    if api_key is None:
        warn("no api_key_file: whoever reaches Ray Serve's port may use the service")
    bundle = read_bundle(arguments.config)
    flags = read_options(RuntimeFlags, arguments, device=device_of(arguments))
    named = [name for name in arguments.allowed_host.split(",") if name]
    options = read_options(ServeOptions, arguments, host=EVERYWHERE[0], allowed_host=named)
    service = open_service(bundle, runtime_of(flags, bundle, "[SERVE] "), options)
    names = allowed_hosts(options.host, options.allowed_host, api_key is not None)
    return create_app(service, api_key, names)


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
    """The application that `serve run` starts; each replica loads its own predictor.

    Raises:
        UsageError: arguments that contradict each other.
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
