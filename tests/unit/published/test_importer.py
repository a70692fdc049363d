"""The import from Python: a typed result, a manifest that opens the checkpoint, and refusals."""

from pathlib import Path

import numpy as np
import pytest

from paddleseg_ext.checkpoints.manifest import configuration_of, read_manifest
from paddleseg_ext.checkpoints.store import load_into
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.files import sha256_of
from paddleseg_ext.config import load_config
from paddleseg_ext.data.build import class_table_of
from paddleseg_ext.models.build import build_model
from paddleseg_ext.published import golden
from paddleseg_ext.published.golden_data import make_state_dict, read_case
from paddleseg_ext.published.importer import ImportOptions, import_checkpoint, verify
from paddleseg_ext.published.systems import GENERATIONS, find_generation

PROJECT = Path(__file__).resolve().parents[3]
V1 = PROJECT / "configs/bisenetv1/bisenetv1_torchseg_cityscapes_1024x1024_80k.yml"
CASE = "torchseg_r18_64x128"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "r18.npz"
    np.savez(path, **make_state_dict(read_case(PROJECT / "tests" / "golden" / CASE)))
    return path


def test_a_checkpoint_is_converted_with_its_configuration(weights: Path, tmp_path: Path) -> None:
    config = load_config(V1)
    result = import_checkpoint(weights, config, tmp_path / "r18.pdparams")
    assert result.path == tmp_path / "r18.pdparams"
    assert (result.generation.system, result.generation.name) == ("torchseg", "r18")
    assert result.pretrained_key is None
    assert result.golden == ()

    manifest = read_manifest(result.path)
    assert manifest.config == config.raw
    assert manifest.network == "BiSeNetV1"
    assert manifest.preprocessing == config.val_dataset["transforms"]
    assert manifest.classes == class_table_of(config).to_dict()
    assert manifest.imported_from["sha256"] == sha256_of(weights)
    opened = configuration_of(result.path)
    assert load_into(build_model(opened, 19), result.path).complete


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(
    value: float, weights: Path, tmp_path: Path
) -> None:
    arrays = dict(np.load(weights))
    name = next(name for name in arrays if name.endswith("running_mean"))
    arrays[name] = arrays[name].copy()
    arrays[name][0] = value
    np.savez(tmp_path / "r18.npz", **arrays)
    with pytest.raises(UsageError, match=rf"r18.npz: {name}: NaN or infinite values"):
        import_checkpoint(tmp_path / "r18.npz", None, tmp_path / "r18.pdparams")
    assert not (tmp_path / "r18.pdparams").exists()


def test_the_golden_cases_are_in_the_result(weights: Path, tmp_path: Path) -> None:
    options = ImportOptions(system="torchseg", verify=True)
    result = import_checkpoint(weights, load_config(V1), tmp_path / "r18.pdparams", options)
    assert [(case.name, case.status) for case in result.golden] == [(CASE, golden.PASSED)]


def test_a_failed_golden_case_writes_nothing(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "NETWORK_TOLERANCE", 0.0)
    with pytest.raises(CheckFailed, match="torchseg r18 does not pass its golden cases"):
        import_checkpoint(
            weights, load_config(V1), tmp_path / "r18.pdparams", ImportOptions(verify=True)
        )
    assert not list(tmp_path.iterdir())


def test_an_installed_copy_asks_for_the_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = find_generation("torchseg", "r18")
    monkeypatch.setattr(golden, "CHECKOUT_CASES", tmp_path / "site-packages" / "tests" / "golden")
    with pytest.raises(UsageError, match=r"^--verify: .*name a folder of cases .*--golden_dir$"):
        verify(generation)
    assert verify(generation, PROJECT / "tests" / "golden")
    with pytest.raises(UsageError, match="contains no golden cases"):
        verify(generation, tmp_path)


def test_every_golden_architecture_is_a_layout() -> None:
    layouts = {(generation.system, generation.name) for generation in GENERATIONS}
    assert set(golden.ARCHITECTURES.values()) <= layouts
    assert len(golden.ARCHITECTURES) == 39


def test_another_name_than_pdparams_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.pdparams is expected, got '.*x\.pth'"):
        import_checkpoint(weights, load_config(V1), tmp_path / "x.pth")
