"""`test_config:` in PaddleSeg's words becomes a protocol, and a typo is an error."""

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.evaluation.protocol_choice import requested_protocol
from paddleseg_ext.scoring.protocols import PROTOCOLS, make_protocol

SLIDING = {"crop_size": [64, 48], "stride": [48, 32]}


def test_nothing_is_the_plain_protocol() -> None:
    assert requested_protocol({}) == PROTOCOLS["whole"]
    assert requested_protocol({"aug_eval": False, "scales": [0.5]}) == PROTOCOLS["whole"]
    # PaddleSeg's ymls leave sizes behind that nothing asks for.
    assert requested_protocol({"is_slide": False} | SLIDING) == PROTOCOLS["whole"]


def test_what_paddleseg_writes() -> None:
    wanted = {"aug_eval": True, "scales": 1.25, "flip_horizontal": True}
    assert requested_protocol(wanted) == make_protocol("whole", [1.25], True)
    wanted = {"is_slide": True} | SLIDING
    assert requested_protocol(wanted) == make_protocol("slide", None, False, [64, 48], [48, 32])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"aug_evl": True}, "did you mean 'aug_eval'"),
        ({"is_slide": True}, "needs --crop_size"),
        ({"is_slide": True, "crop_size": [64], "stride": [8, 8]}, "[width, height]"),
        ({"is_slide": True, "crop_size": 64, "stride": [8, 8]}, "crop_size: [width"),
        ({"aug_eval": True, "scales": [-1.0]}, "above 0"),
        ({"aug_eval": True, "scales": float("nan")}, "above 0"),
        ({"aug_eval": True, "scales": True}, "above 0"),
        ({"is_slide": "False"}, "'is_slide' must be true or false, got 'False'"),
        ({5: True}, "unknown key '5'"),
        ({"aug_eval": True, "scales": "big"}, "above 0 are expected, got 'big'"),
    ],
)
def test_what_is_wrong(wanted: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        requested_protocol(wanted)
    assert message in str(caught.value)
