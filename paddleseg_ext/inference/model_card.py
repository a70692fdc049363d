"""The part of `MODEL_CARD.md` that changes: verdicts and calibration between two markers.

`deploy.yaml` is the record that programs read. The card repeats them for people, and every
command that writes the record rewrites them there (`bundle.py`). What follows `YOURS` belongs to
whoever publishes the model: no command changes it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from paddleseg_ext.common.files import write_text
from paddleseg_ext.common.log import warn
from paddleseg_ext.inference.calibration import Calibration
from paddleseg_ext.inference.verified import Verified

CARD_FILE = "MODEL_CARD.md"
VERDICTS = "<!-- verdicts: written by export, tune, parity and quantize -->\n"
YOURS = "<!-- what follows is yours: no command changes it -->\n"
MOST_BYTES = 1 << 20  # of a card that is read
_COLUMNS = ("runtime", "verdict", "images", "pixels that differ", "speed", "by")


def cell(value: object) -> str:
    """A value as text of a Markdown table: without markup, on one line."""
    text = " ".join(str(value).split())
    for sign, instead in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("`", "'")):
        text = text.replace(sign, instead)
    return text


def table(rows: Sequence[tuple[object, ...]], columns: tuple[str, ...]) -> str:
    """A Markdown table."""
    lines = [columns, ("---",) * len(columns), *(tuple(map(cell, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def verdict_text(verified: Mapping[str, Verified]) -> str:
    """The table of a bundle's records, one row per runtime."""
    if not verified:
        return "No runtime was compared yet.\n"
    rows = [
        (
            name,
            f"{'' if record.passed else '**failed**: '}{record.grade}{_of_scores(record)}",
            record.num_images,
            record.num_different,
            f"{record.ratio:.2f} on {record.cpu}" if record.ratio else "",
            f"{record.command} {record.version}",
        )
        for name, record in verified.items()
    ]
    return table(rows, _COLUMNS) + (
        "\nSpeed: that of the runtime `paddle` on the same processor is 1. *By* names the command "
        "and the\nrelease of the engine.\n"
    )


def _of_scores(record: Verified) -> str:
    before, after = record.mean_iou_before, record.mean_iou_after
    return f", mIoU {before:.4f} -> {after:.4f}" if before is not None and after else ""


def rewrite_verdicts(
    folder: Path, verified: Mapping[str, Verified], calibration: Calibration | None = None
) -> None:
    """Replaces the verdicts in the folder's card; without a card, or without its markers, nothing.

    Args:
        folder: of a bundle.
        verified: every record of its `deploy.yaml`.
        calibration: of its `deploy.yaml`, which follows the verdicts.
    """
    text = read_card(folder)
    before, start, rest = text.partition(VERDICTS)
    _, end, after = rest.partition(YOURS)
    if start and end:
        text = verdict_text(verified) + (f"\n{calibration.describe()}\n" if calibration else "")
        write_text(folder / CARD_FILE, f"{before}{start}\n{text}\n{end}{after}")


def read_card(folder: Path) -> str:
    """The folder's card; empty where there is none, with a warning where it cannot be read."""
    path = folder / CARD_FILE
    if not path.is_file():
        return ""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"at most {MOST_BYTES} bytes are expected")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        warn(f"{path} stays as it is: {error}")
        return ""
