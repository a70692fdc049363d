"""Pieces of self-contained HTML reports: one file, no links to anything outside it."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JPEG_QUALITY = 88

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; background: #f5f6f8; margin: 0; }
main { max-width: 1200px; margin: 0 auto; padding: 24px; }
h1 { font-size: 26px; margin: 8px 0; }
h2 { font-size: 19px; margin: 32px 0 8px; border-bottom: 1px solid #d5dae1; padding-bottom: 4px; }
p { margin: 6px 0; } code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { background: #fff; border: 1px solid #dde2e8; padding: 10px; overflow-x: auto; }
table { border-collapse: collapse; background: #fff; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid #dde2e8; padding: 3px 10px; text-align: right; }
th { background: #eceff3; font-weight: 600; } td:first-child, th:first-child,
  td.text, th.text { text-align: left; }
.scroll { overflow-x: auto; }
td.text { overflow-wrap: anywhere; min-width: 9em; } .badge { white-space: nowrap; }
.badge { display: inline-block; border-radius: 4px; padding: 2px 10px; color: #fff;
  font-weight: 600; background: #78828f; }
.identical, .near-tie, .within-budget { background: #1a7f37; } .failed { background: #b42318; }
.answer { display: inline-block; border-radius: 6px; padding: 8px 16px; color: #fff;
  font-size: 22px; font-weight: 700; }
.not-compared { background: #78828f; }
.absent { color: #9aa3ad; }
.swatch { display: inline-block; width: 12px; height: 12px; border: 1px solid #0003;
  margin-right: 6px; vertical-align: -1px; }
.legend span { white-space: nowrap; margin-right: 14px; font-size: 13px; }
.legend .swatch { margin-right: 4px; }
.pictures { display: grid; gap: 6px; margin: 10px 0; }
.pictures img { width: 100%; display: block; }
figure { margin: 0; } figcaption { font-size: 13px; color: #56606c; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 12px 0; }
.tile { background: #fff; border: 1px solid #dde2e8; padding: 10px 16px; min-width: 120px; }
.tile b { display: block; font-size: 22px; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body><main>
{{ body }}
</main></body>
</html>
"""

_PICTURE_ROW = """
<div class="pictures" style="grid-template-columns: repeat({{ pictures|length }}, 1fr)">
{% for caption, uri in pictures %}
<figure><img src="{{ uri }}" alt="{{ caption }}"><figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
</div>"""

_LEGEND = """
<p class="legend">{% for name, colour, share in entries %}
<span><i class="swatch" style="background:rgb({{ colour|join(',') }})"></i>{{ name }}
{{ '%.2f'|format(100 * share) }}%</span>
{% endfor %}</p>"""

_ENVIRONMENT = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True)
class ChartLine:
    """One line of a chart: its points, in order of x."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    color: str


def page(title: str, template: str, **values: Any) -> str:
    """A whole HTML page.

    Args:
        template: Jinja2 text of the body. Every value is escaped unless it is `Markup`; a name
            without a value is an error. `picture_row(pictures)` sets (caption, URI) pairs side by
            side, `legend(entries)` shows (name, RGB colour, share) triples.
    """
    body = Markup(_ENVIRONMENT.from_string(template).render(title=title, **values))
    shell = _ENVIRONMENT.from_string(_PAGE)
    return shell.render(title=title, style=Markup(STYLE), body=body) + "\n"


def _picture_row(pictures: Sequence[tuple[str, str]]) -> Markup:
    return Markup(_ENVIRONMENT.from_string(_PICTURE_ROW).render(pictures=pictures))


def _legend(entries: Sequence[tuple[str, Sequence[int], float]]) -> Markup:
    return Markup(_ENVIRONMENT.from_string(_LEGEND).render(entries=entries))


_ENVIRONMENT.globals |= {"picture_row": _picture_row, "legend": _legend}


def picture_uri(image: NDArray[np.uint8], width: int | None = None) -> str:
    """A picture as a `data:` URI.

    Args:
        image: (H, W, 3) uint8 RGB.
        width: pixels to shrink it to where it is wider.
    """
    if width is not None and image.shape[1] > width:
        height = max(1, round(image.shape[0] * width / image.shape[1]))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not done:
        raise OSError("OpenCV could not encode a picture")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def chart(left: ChartLine, right: ChartLine, x_label: str) -> Markup:
    """Two lines over one x axis, each with its own y axis, as inline SVG."""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for line, side in ((left, axes), (right, axes.twinx())):
            marker = "o" if len(line.xs) < 30 else None
            side.plot(line.xs, line.ys, color=line.color, label=line.name, marker=marker, ms=4)
            side.set_ylabel(line.name, color=line.color)
            side.set_ylim(bottom=0)
            side.set_xlim(left=0)
            side.spines["top"].set_visible(False)
        axes.set_xlabel(x_label)
        axes.grid(alpha=0.25)

    return svg((9, 3.2), draw)


def svg(
    size_inches: tuple[float, float], draw: Callable[["Figure"], None], font_size: float = 10
) -> Markup:
    """The figure that `draw` draws with Matplotlib, as inline SVG: equal text each time."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # Text stays text; names inside the file are hashed, by default with a random salt.
    salt = "paddleseg_ext"
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": font_size}):
        figure = Figure(figsize=size_inches, layout="constrained")
        draw(figure)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})
    drawn = text.getvalue()
    return Markup(drawn[drawn.index("<svg") :])
