"""`paddleseg-ext config`: names, and one configuration whole."""

from pathlib import Path

import pytest
import yaml
from commands import call

from paddleseg_ext.common.shipped_configs import shipped_configs
from paddleseg_ext.config import load_config

NAME = "bisenetv1_cityscapes_1024x512_160k"


def test_list_has_a_line_for_each() -> None:
    done = call("paddleseg_ext", "config", "list")
    assert done.status == 0
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_configs())
    assert f"\n{NAME} " in done.out
    assert all(len(line.split()) > 1 for line in lines)


@pytest.mark.parametrize("name", shipped_configs())
def test_what_show_prints_is_the_configuration(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from paddleseg_ext.commands.config import main

    main(["show", name])
    shown = tmp_path / "shown.yml"
    shown.write_text(capsys.readouterr().out)
    assert load_config(shown).with_defaults() == load_config(name).with_defaults()
    keys = set(yaml.safe_load(shown.read_text()))
    assert {"batch_size", "accumulate", "ema", "sync_bn", "registry", "absent_class"} <= keys


def test_show_applies_opts_and_refuses_unknown_names() -> None:
    done = call("paddleseg_ext", "config", "show", NAME, "--opts", "iters=7", "model.x=1")
    shown = yaml.safe_load(done.out)
    assert (shown["iters"], shown["model"]["x"], shown["batch_size"]) == (7, 1, 4)
    done = call("paddleseg_ext", "config", "show", NAME[:-3])
    assert done.status == 2
    assert f"the nearest is '{NAME}'" in done.error_lines[0]
