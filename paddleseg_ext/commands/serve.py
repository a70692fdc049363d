"""Serve an exported bundle over HTTP, with a page to try it in a browser.

POST an image to /v1/segment and get its label map (palette PNG, pixel value = class id, original
size), overlay or JSON; /openapi.json describes the rest.

  paddleseg-ext serve --config bundle/deploy.yaml
  curl --data-binary @street.jpg 'http://127.0.0.1:8080/v1/segment?output=labels' -o labels.png

SIGTERM and Ctrl-C finish what was accepted, then stop.
"""

import argparse

from paddleseg_ext.commands.runtime_flags import RuntimeFlags, runtime_of
from paddleseg_ext.common.flags import make_parser
from paddleseg_ext.common.options import add_options, read_options
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.serving.options import ServeOptions

PADDLE_FLAGS = ("enable_mkldnn", "use_trt", "min_subgraph_size", "trt_cache_dir")
NOT_FOR_SERVING = (*PADDLE_FLAGS, "streams", "cpu_affinity")  # one thread runs the network


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `serve`."""
    parser = make_parser(__doc__, "serve")
    parser.add_argument("--config", required=True, metavar="YAML", help="deploy.yaml of the bundle")
    add_options(parser.add_argument_group("runtime"), RuntimeFlags, skip=NOT_FOR_SERVING)
    add_options(parser, ServeOptions)
    return parser


def main(argv: list[str]) -> int | None:
    """Serve until SIGTERM or Ctrl-C."""
    args = build_parser().parse_args(argv)
    _require_packages()
    from paddleseg_ext.serving.server import serve

    bundle = read_bundle(args.config)
    spec = runtime_of(read_options(RuntimeFlags, args), bundle, "[SERVE] ")
    serve(bundle, spec, read_options(ServeOptions, args))
    return None


def _require_packages() -> None:
    with optional_imports("the service", "serve"):
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
