"""The tables of the pages are those of the options."""

from pathlib import Path

import pytest

from paddleseg_ext.common.options import options_table
from paddleseg_ext.config import Config, Sections
from paddleseg_ext.studies.several import SeveralOptions
from paddleseg_ext.training.distillation import DistillationOptions
from paddleseg_ext.training.ema import EmaOptions
from paddleseg_ext.training.optimizer import OptimizerOptions
from paddleseg_ext.training.options import TrainOptions, YmlOverrides
from paddleseg_ext.training.schedules import DECAYS, Warmup

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize(
    ("page", "options"),
    [
        *(("configs.md", options) for options in (Sections, Config, OptimizerOptions)),
        *(("configs.md", options) for options in (EmaOptions, DistillationOptions)),
        *(("configs.md", options) for options in (*DECAYS.values(), Warmup)),
        *(("training.md", options) for options in (YmlOverrides, TrainOptions)),
        ("runs.md", SeveralOptions),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_page_has_the_table_of_its_options(page: str, options: type) -> None:
    table = "\n".join(options_table(options))
    assert table in (DOCS / page).read_text(encoding="utf-8"), f"{page} should contain\n{table}"
