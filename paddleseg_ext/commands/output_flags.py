"""Options of outputs that `predict` and `infer` share."""

from typing import Any

from paddleseg_ext.common.options import option, switch


def save_confidence_option(of_videos: str = "") -> Any:
    """Returns the field of `--save_confidence`; `of_videos` is added to its help."""
    return switch(
        "also write confidence/NAME.png: the largest softmax at the original size after all "
        f"resizing, 255 for 1{of_videos}"
    )


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
