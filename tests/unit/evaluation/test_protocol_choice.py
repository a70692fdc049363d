"""`test_config:` in PaddleSeg's words becomes a protocol, and a typo is an error."""

from typing import Any

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.options import from_section
from paddleseg_ext.config import Config, check_config
from paddleseg_ext.evaluation.protocol_choice import (
    ProtocolFlags,
    requested_rule,
    rule_of,
    rules_of,
)
from paddleseg_ext.scoring.protocols import PROTOCOLS, EvaluationRule, make_protocol

SLIDING = {"crop_size": [64, 48], "stride": [48, 32]}


def test_nothing_is_the_plain_protocol() -> None:
    assert requested_rule({}).make() == PROTOCOLS["whole"]
    assert requested_rule({"aug_eval": False, "scales": [0.5]}).make() == PROTOCOLS["whole"]
    # PaddleSeg's ymls leave sizes behind that nothing asks for.
    assert requested_rule({"is_slide": False} | SLIDING).make() == PROTOCOLS["whole"]


def test_what_paddleseg_writes() -> None:
    wanted = {"aug_eval": True, "scales": 1.25, "flip_horizontal": True}
    assert requested_rule(wanted).make() == make_protocol("whole", [1.25], True)
    wanted = {"is_slide": True} | SLIDING
    assert requested_rule(wanted).make() == make_protocol("slide", None, False, [64, 48], [48, 32])


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
        ({"aug_eval": True, "scales": "big"}, "above 0 and up to 64 are expected, got 'big'"),
    ],
)
def test_what_is_wrong(wanted: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        requested_rule(wanted)
    assert message in str(caught.value)


def config_with(**keys: Any) -> Config:
    return check_config(keys, "net.yml")


SLIDE = {"is_slide": True} | SLIDING


@pytest.mark.parametrize(
    ("flags", "test_config", "expected"),
    [
        ({}, {}, EvaluationRule()),
        ({}, SLIDE, EvaluationRule("slide", None, False, (64, 48), (48, 32))),
        ({}, {"protocol": "msf"}, EvaluationRule("msf")),
        ({"protocol": "whole"}, SLIDE, EvaluationRule()),
        ({"is_slide": False}, SLIDE, EvaluationRule()),
        ({"stride": [64, 48]}, SLIDE, EvaluationRule("slide", None, False, (64, 48), (64, 48))),
        (
            {"is_slide": True, "crop_size": [8, 8], "stride": [8, 8]},
            {"protocol": "msf"},
            EvaluationRule("slide", None, False, (8, 8), (8, 8)),
        ),
        (
            {"aug_eval": True, "scales": [0.5, 1.0], "flip_horizontal": True},
            {},
            EvaluationRule("whole", (0.5, 1.0), True),
        ),
    ],
)
def test_flags_over_test_config_over_whole(
    flags: dict, test_config: dict, expected: EvaluationRule
) -> None:
    assert rule_of(ProtocolFlags(**flags), config_with(test_config=test_config)) == expected
    # A manifest holds the rule in words that lead back to it.
    assert from_section(EvaluationRule, expected.to_dict(), "manifest") == expected
    assert requested_rule(expected.test_config()) == expected


def test_absent_classes_follow_the_flag_then_the_yml() -> None:
    config = config_with(absent_class="one")
    assert rule_of(ProtocolFlags(), config).absent_class == "one"
    assert rule_of(ProtocolFlags(absent_class="zero"), config).absent_class == "zero"


@pytest.mark.parametrize(
    ("flags", "test_config", "message"),
    [
        ({"protocol": "msf", "is_slide": True}, {}, "contradict"),
        ({"scales": [0.5]}, {}, "do nothing without --aug_eval"),
        ({"crop_size": [8, 8]}, {}, "do nothing without --is_slide"),
        ({"aug_eval": True}, {"protocol": "msf"}, "protocol msf fixes scales and flip"),
        ({}, {"protocol": "mfs"}, "did you mean 'msf'"),
        ({}, {"protocol": "ss", "is_slide": True}, "contradict"),
    ],
)
def test_contradictions(flags: dict, test_config: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rule_of(ProtocolFlags(**flags), config_with(test_config=test_config))


def test_training_evaluates_by_keep_best_else_by_test_config() -> None:
    config = config_with(keep_best=["ss", "msf"], absent_class="zero")
    assert rules_of(config) == {
        "ss": EvaluationRule("ss", absent_class="zero"),
        "msf": EvaluationRule("msf", absent_class="zero"),
    }
    assert rules_of(config_with(test_config={"protocol": "ssc"})) == {None: EvaluationRule("ssc")}
