"""Every checkpoint layout has a shipped configuration, which `import` names and takes."""

from pathlib import Path

import numpy as np
import pytest

from paddleseg_ext.checkpoints.manifest import configuration_of, read_manifest
from paddleseg_ext.checkpoints.store import load_into
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import load_config
from paddleseg_ext.data.build import class_table_of
from paddleseg_ext.models.build import build_model
from paddleseg_ext.published.golden_data import make_state_dict, read_case
from paddleseg_ext.published.importer import import_checkpoint, load_published
from paddleseg_ext.published.recipes import CONFIGS, differences, recipes_of
from paddleseg_ext.published.systems import GENERATIONS, find_generation, recognise

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def test_every_layout_has_configurations_with_its_network() -> None:
    assert list(CONFIGS) and set(CONFIGS) == {(g.system, g.name) for g in GENERATIONS}
    for generation in GENERATIONS:
        for recipe in recipes_of(generation):
            assert not differences(recipe.config.model, generation.model), recipe.name


def test_options_are_named_where_no_configuration_has_the_network() -> None:
    (first, *_) = recipes_of(find_generation("dabnet", "r18_p8"))
    assert first.name == "dabnet_r18_cityscapes_1024x1024_80k --opts model.patch_size=8"
    light, small = recipes_of(find_generation("stdc", "stdc813_delnet"))
    assert light.name == "stdc1_seg_delnet_cityscapes_1024x512_60k"
    assert (small.name, small.num_classes) == ("stdc1_seg_delnet_2classes_128x96_40k", 2)


def save(case: str, folder: Path, classes: int | None = None) -> Path:
    """The checkpoint of a golden case, with another class count if one is given."""
    state = make_state_dict(read_case(GOLDEN / case))
    if classes:
        state = {
            key: np.resize(value, (classes, *value.shape[1:]))
            if value.shape and value.shape[0] == 19
            else value
            for key, value in state.items()
        }
    path = folder / f"{case}.npz"
    np.savez(path, **state)
    return path


def test_without_a_configuration_the_class_count_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = save("cc_v1_head_64x128", tmp_path, classes=150)
    result = import_checkpoint(weights, None, tmp_path / "ade.pdparams")
    assert "150 classes, as --config bisenetv1_coincheung_ade20k_512x512_40k" in (
        capsys.readouterr().out
    )
    opened = configuration_of(result.path)
    expected = load_config("bisenetv1_coincheung_ade20k_512x512_40k")
    assert opened.val_dataset["transforms"] == expected.val_dataset["transforms"]
    assert load_into(build_model(opened, 150), result.path).complete


def test_an_own_class_count_gets_classes_without_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = save("torchseg_r18_64x128", tmp_path, classes=7)
    result = import_checkpoint(weights, None, tmp_path / "own.pdparams")
    assert "7 classes, which no shipped configuration of this network has" in (
        capsys.readouterr().out
    )
    opened = configuration_of(result.path)
    assert class_table_of(opened).num_classes == 7
    assert load_into(build_model(opened, 7), result.path).complete


def test_a_wrong_configuration_ends_with_the_right_one(tmp_path: Path) -> None:
    weights = save("cc_v1_head_64x128", tmp_path)

    def refused(config: str, *opts: str) -> str:
        with pytest.raises(UsageError) as error:
            import_checkpoint(weights, load_config(config, opts), tmp_path / "x.pdparams")
        assert not (tmp_path / "x.pdparams").exists()
        return str(error.value)

    right = "--config bisenetv1_coincheung_cityscapes_1024x1024_80k"
    message = refused("stdc1_seg_cityscapes_1024x512_60k")
    assert right in message
    assert "model.type is STDCSeg" in message
    assert "--opts" not in message
    message = refused("bisenetv1_torchseg_cityscapes_1024x1024_80k")
    assert right in message
    assert "needs --opts model.variant=coincheung" in message
    message = refused("bisenetv1_coincheung_ade20k_512x512_40k")
    assert "it has 150 classes" in message
    assert f"with 19 classes: {right}" in message


def test_a_backbone_needs_no_configuration(tmp_path: Path) -> None:
    state = make_state_dict(read_case(GOLDEN / "torchseg_r18_64x128"))
    prefix = "context_path."
    resnet = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    resnet |= {"fc.weight": np.zeros((1000, 512), np.float32)}
    np.savez(tmp_path / "resnet18.npz", **resnet)
    result = import_checkpoint(tmp_path / "resnet18.npz", None, tmp_path / "resnet18.pdparams")
    assert result.pretrained_key == "model.backbone.pretrained"
    assert read_manifest(result.path).config is None
    with pytest.raises(UsageError, match="is --config bisenetv1_torchseg_cityscapes"):
        wrong = load_config("stdc1_seg_cityscapes_1024x512_60k")
        import_checkpoint(tmp_path / "resnet18.npz", wrong, tmp_path / "x.pdparams")


def test_plain_norms_without_any_counter_are_ambiguous() -> None:
    """InPlaceABN has none outside the backbone, whose norms are plain and have theirs."""
    state = make_state_dict(read_case(GOLDEN / "stdc813_abn_75x109"))
    assert recognise(state, "auto", None, "x.pth").name == "stdc813_abn"
    bare = {key: x for key, x in state.items() if not key.endswith("num_batches_tracked")}
    with pytest.raises(UsageError, match=r"stdc813_abn .*stdc813_bn .*--generation"):
        recognise(bare, "auto", None, "x.pth")


@pytest.mark.parametrize(
    "variant", ["channel", "spatial", "pce", "pce0", "pce01", "pce02", "image", "fcn", "baseline"]
)
def test_dabnets_ablations_are_recognised(variant: str) -> None:
    """By the tensors that the original's file of that name keeps."""
    state = make_state_dict(read_case(GOLDEN / "dab_p2_64x128"))
    kept = {"pce0": 1, "pce01": 2, "pce02": 3, "image": 0, "fcn": 0, "baseline": 0}.get(variant, 4)
    dropped = [f"backbone.SIM_{i}." for i in range(kept, 4)]
    if variant in ("pce", "fcn", "baseline"):
        dropped += ["backbone.sp_", "backbone.cp_"]
    state = {key: x for key, x in state.items() if not key.startswith(tuple(dropped))}
    if variant in ("channel", "spatial"):
        state = {key: x for key, x in state.items() if ".l2l_p" not in key and "l2l_bn" not in key}
    if variant == "spatial":
        state |= {k: x[:, : x.shape[1] // 4] for k, x in state.items() if "h2l_0.weight" in k}
    if variant == "baseline":
        sides = [(64, 3, 7), (64, 64, 3), (64, 64, 3), (128, 64, 1)]
        for i, (out, into, side) in enumerate(sides):
            state[f"backbone.sp_{i}.conv.weight"] = np.zeros((out, into, side, side), np.float32)
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                state[f"backbone.sp_{i}.bn.{leaf}"] = np.zeros(out, np.float32)
    generation = recognise(state, "auto", None, "x.pth")
    assert (generation.system, generation.name) == ("dabnet", f"r18_{variant}")
    config = recipes_of(generation)[0].config
    _, tensors = load_published(config, generation, state, "x.pth")
    assert len(tensors.arrays) == sum("num_batches" not in key for key in state)
