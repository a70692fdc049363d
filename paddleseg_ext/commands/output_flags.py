"""Options of outputs that `predict` and `infer` share."""

from typing import Any

from paddleseg_ext.common.options import option


def unknown_below_option() -> Any:
    """Returns the field of `--unknown_below`."""
    return option(
        None,
        "pixels of less confidence (0 to 1) are unknown in label maps and overlays: value "
        "`classes.unknown` of the class table, or 254, magenta, not scored",
        above=0,
        below=1,
        metavar="P",
    )
