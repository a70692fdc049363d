"""Protocol geometry: windows cover every pixel, sizes round as published, flags are checked."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddleseg_ext.scoring.protocols import (
    DEFAULT_PROTOCOL,
    PROTOCOLS,
    make_protocol,
    window_starts,
)


@given(st.integers(1, 400), st.integers(1, 120), st.data())
def test_windows_cover_every_pixel_and_stay_inside(
    side: int, crop: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, crop))
    starts = window_starts(side, crop, stride)
    seen = set()
    for start in starts:
        assert start >= 0 and start + min(crop, side) <= side
        seen |= set(range(start, start + min(crop, side)))
    assert seen == set(range(side))
    assert starts == sorted(set(starts)), "no window twice"


@pytest.mark.parametrize(
    ("side", "crop", "stride", "expected"),
    [
        (200, 96, 64, [0, 64, 104]),  # the last one moved back
        (300, 96, 80, [0, 80, 160, 204]),
        (96, 96, 64, [0]),
        (97, 96, 64, [0, 1]),
        (50, 96, 64, [0]),
        (192, 96, 96, [0, 96]),
    ],
)
def test_window_starts(side: int, crop: int, stride: int, expected: list[int]) -> None:
    assert window_starts(side, crop, stride) == expected


@pytest.mark.parametrize("stride", [0, 97])
def test_a_stride_that_leaves_pixels_out(stride: int) -> None:
    with pytest.raises(ValueError, match="stride: 1 to 96"):
        window_starts(200, 96, stride)


def test_published_sizes() -> None:
    assert PROTOCOLS["ss"].scaled_hw((200, 300), 1.0) == (224, 320)
    assert PROTOCOLS["msf"].scaled_hw((1024, 2048), 0.75) == (768, 1536)
    assert PROTOCOLS["msf"].scaled_hw((201, 301), 0.5) == (128, 160)
    assert PROTOCOLS["scale_0.5"].scaled_hw((201, 301), 0.5) == (100, 150)  # cut off
    assert PROTOCOLS["whole"].scaled_hw((201, 301), 0.5) == (101, 151)  # rounded
    assert PROTOCOLS["coincheung_demo"].scaled_hw((200, 300), 1.0) == (224, 320)
    assert PROTOCOLS["coincheung_demo_video"].scaled_hw((96, 160), 1.0) == (768, 768)
    windows = make_protocol("ssc").windows
    assert windows is not None and windows.stride_wh == (683, 683)  # ceil(1024 * 2 / 3)
    windows = make_protocol("torchseg").windows
    assert windows is not None and windows.stride_wh == (854, 854)  # ceil(1024 * 5 / 6)


def test_what_is_named_is_described() -> None:
    for name, protocol in PROTOCOLS.items():
        assert protocol.describe().startswith(f"{name} ({protocol.source}")
    assert "crops 96x64 every 64x43" in make_protocol("ssc", crop_size=[96, 64]).describe()
    assert "1/8 of the label size" in PROTOCOLS["label_1_8"].describe()


def test_only_the_default_is_plain() -> None:
    assert [name for name, protocol in PROTOCOLS.items() if protocol.is_plain] == [DEFAULT_PROTOCOL]
    assert not make_protocol("whole", flip_horizontal=True).is_plain
    assert not make_protocol("whole", scales=[1.0, 1.5]).is_plain


def test_half_resize_scales_the_halved_image() -> None:
    assert make_protocol("half_resize", scales=[0.5, 2.0]).scales == (0.25, 1.0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sss", {}, "one of ss, msf"),
        ("ss", {"scales": [0.5]}, "fixes scales"),
        ("msf", {"flip_horizontal": True}, "fixes flip_horizontal"),
        ("whole", {"crop_size": [8, 8]}, "fixes crop_size"),
        ("ssc", {"stride": [8, 8]}, "fixes stride"),
        ("slide", {"crop_size": [8, 8]}, "needs --stride"),
        ("slide", {"crop_size": [8, 8], "stride": [9, 8]}, "1 to 8"),
        ("slide", {"crop_size": [8], "stride": [8, 8]}, "[width, height]"),
        ("whole", {"scales": [0.0]}, "above 0"),
        ("whole", {"scales": [65.0]}, "up to 64"),
        ("whole", {"scales": [math.inf]}, "up to 64"),
        ("whole", {"scales": []}, "above 0"),
    ],
)
def test_wrong_options(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make_protocol(name, **options)
    assert message in str(caught.value)
