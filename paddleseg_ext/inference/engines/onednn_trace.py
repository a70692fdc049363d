"""Which oneDNN kernels Paddle really calls, from oneDNN's own log.

Paddle's `Config` holds what was asked for, and for Paddle 3's graphs its list of passes is that of
Paddle 2. oneDNN itself can print a line for every kernel. This is switched on in the library that
Paddle has loaded, for the length of one run.
"""

import ctypes
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from paddleseg_ext.common.native_output import without_lines

LIBRARY = "libdnnl"
MAPS = "/proc/self/maps"
MARK = "onednn_verbose"
EXECUTED = "exec"
SOURCE = re.compile(r"(?:src|data)[:_]([a-z0-9]+)")
PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "s8": "int8", "u8": "int8"}
# Kernels that only move data say nothing of the precision that is computed in.
MOVES_DATA = ("reorder", "concat")


@dataclass(frozen=True)
class Trace:
    """The kernels of one run.

    Attributes:
        kernels: `convolution brg_conv_fwd:avx512_core` -> calls.
        precisions: `fp32`, `bf16`, `fp16` or `int8` -> kernels that compute from it.
        visible: whether oneDNN's log could be read; without it nothing is known.
    """

    kernels: dict[str, int]
    precisions: dict[str, int]
    visible: bool = True


def trace(run: Callable[[], object]) -> Trace:
    """Call `run` and report the oneDNN kernels that it used; none where it used none.

    What other threads print meanwhile comes out afterwards.
    """
    library = _loaded_library()
    if library is None:
        run()
        return Trace({}, {}, visible=False)
    dnnl = ctypes.CDLL(library)
    with without_lines((MARK,)) as log:
        dnnl.dnnl_set_verbose(1)
        try:
            run()
        finally:
            dnnl.dnnl_set_verbose(0)
    return _parse(log)


def _loaded_library() -> str | None:
    """The path of the oneDNN that this process has loaded; on Linux only."""
    try:
        with open(MAPS, encoding="utf-8") as maps:
            return next(
                (line.split()[-1] for line in maps if LIBRARY in os.path.basename(line)),  # noqa: PTH119 (a line, not a path)
                None,
            )
    except OSError:
        return None


def _parse(lines: list[str]) -> Trace:
    kernels: Counter[str] = Counter()
    precisions: Counter[str] = Counter()
    for line in lines:
        # onednn_verbose,v1,primitive,exec,cpu,KIND,IMPLEMENTATION,PROPAGATION,DESCRIPTORS,...
        # onednn_verbose,exec,cpu,KIND,... in Paddle 2.6
        fields = line.split(",")
        if EXECUTED not in fields[1:4]:
            continue
        fields = fields[fields.index(EXECUTED) + 2 :]
        if len(fields) < 4:
            continue
        kind, implementation, descriptors = fields[0], fields[1], fields[3]
        kernels[f"{kind} {implementation}"] += 1
        if kind not in MOVES_DATA:
            # `src:f32:a:blocked:acdb::f0 wei:...`, in Paddle 2.6 `src_f32::blocked:acdb:f0 ...`:
            # the first is what the kernel reads.
            source = SOURCE.match(descriptors)
            name = source[1] if source else "unknown"
            precisions[PRECISIONS.get(name, name)] += 1
    return Trace(dict(kernels), dict(precisions))
