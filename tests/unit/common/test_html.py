"""Pages must hold together alone: everything escaped, nothing linked."""

import base64
from xml.etree import ElementTree

import cv2
import jinja2
import numpy as np
import pytest
from markupsafe import Markup

from paddleseg_ext.common import html


def test_values_are_escaped_and_markup_is_not():
    text = html.page("A & B", "<p>{{ a }}</p>{{ b }}", a="<script>", b=Markup("<i>x</i>"))
    assert "<title>A &amp; B</title>" in text
    assert "<p>&lt;script&gt;</p><i>x</i>" in text
    assert "h1 { font-size" in text


def test_a_name_without_a_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        html.page("t", "{{ nothing }}")


def test_a_picture_keeps_its_colours_and_shrinks():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :, 0] = 250  # red in RGB
    uri = html.picture_uri(image, width=40)
    kind, _, data = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (20, 40, 3)
    assert decoded[10, 20, 2] > 240  # red is last in OpenCV's order
    assert decoded[10, 20, 0] < 10


def test_a_row_of_pictures_escapes_its_captions():
    pictures = [("a < b", "data:image/jpeg;base64,AA=="), ("c", "data:image/jpeg;base64,BB==")]
    text = html.page("t", "{{ picture_row(row) }}", row=pictures)
    assert "repeat(2, 1fr)" in text
    assert '<img src="data:image/jpeg;base64,AA==" alt="a &lt; b">' in text
    assert "<figcaption>c</figcaption>" in text


def test_a_chart_is_well_formed_svg_without_links_and_repeats():
    lines = (
        html.ChartLine("loss", [1, 2], [3, 1], "#b00"),
        html.ChartLine("mIoU", [2], [0.5], "#0b0"),
    )
    svg = html.chart(*lines, "iteration")
    ElementTree.fromstring(svg)
    for text in ("loss", "mIoU", "iteration"):
        assert f">{text}<" in svg
    assert html.chart(*lines, "iteration") == svg
    page = html.page("t", "{{ curve }}", curve=svg)
    assert "<svg" in page
    assert 'src="http' not in page
