"""Budgets: the defaults, a user's file over them, and what is refused."""

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.evaluation.budgets import read_budgets, to_json
from paddleseg_ext.scoring.verdict import EXACT


def test_fp32_allows_nothing_but_near_ties_and_int8_does():
    budgets = read_budgets()
    assert budgets["fp32"] == EXACT
    assert 0 < budgets["int8"].mean_iou <= 0.01
    assert set(to_json(budgets)) == {"fp32", "fp16", "bf16", "int8"}


def test_a_users_file_changes_what_it_names(tmp_path):
    path = tmp_path / "b.yml"
    path.write_text("int8: {mean_iou: 0.002}")
    budgets, defaults = read_budgets(path), read_budgets()
    assert budgets["int8"].mean_iou == 0.002
    assert budgets["int8"].class_iou == defaults["int8"].class_iou
    assert budgets["fp16"] == defaults["fp16"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int9: {mean_iou: 0.1}", "did you mean 'int8'"),
        ("int8: {mean_io: 0.1}", "did you mean 'mean_iou'"),
        ("int8: {mean_iou: 1}\nfp16: {class_iou: 3}", "fp16.class_iou: a ratio from 0 to 1"),
        ("int8: {mean_iou: true}", "a ratio from 0 to 1 is expected, got True"),
        ("int8: {least_class_pixels: 0.5}", "a count of pixels"),
        ("int8: 0.1", "a section of"),
        ("- int8", "is expected"),
        ("int8: [", "line 1: expected"),
    ],
)
def test_wrong_budgets_are_refused(tmp_path, text, message):
    path = tmp_path / "b.yml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message.replace("[", r"\[")):
        read_budgets(path)
