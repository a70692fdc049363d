"""The shipped configurations that published checkpoints belong to.

recipes_of(find_generation("dabnet", "r18_p8"))[0].name
-> "dabnet_r18_cityscapes_1024x1024_80k --opts model.patch_size=8"
"""

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import Config, check_config, load_config
from paddleseg_ext.data.build import class_table_of
from paddleseg_ext.models.build import build_model
from paddleseg_ext.published.generation import Generation
from paddleseg_ext.registry import BACKBONES, MODELS

if TYPE_CHECKING:
    import numpy as np

# Options that change the arithmetic and not the tensors: strict loading cannot see a wrong value.
_ARITHMETIC = ("activation", "pool_counts_padding")
# Our name of the main head's classifier, in every network of this package.
_CLASSIFIER = "head.classifier.weight"

_CC1, _CC2 = "bisenetv1_coincheung_{}_1024x1024_80k", "bisenetv2_coincheung_{}_1024x512_150k"
_X39 = ("bisenetv1_torchseg_x39_cityscapes_1024x1024_140k",)
_STDC1, _STDC2 = (f"stdc{n}_seg_cityscapes_1024x512_60k" for n in (1, 2))
_WHOLE = "keep_best=null test_config=null"  # images are scored whole, not at STDC-Seg's scales
_CUTNET = "stdc1_seg_cutnet_cityscapes_1024x512_60k"
_DABNET = tuple(
    f"dabnet_r18_{data}"
    for data in (
        "cityscapes_1024x1024_80k",
        "coco_stuff10k_512x512_80k",
        "camvid_960x768_80k",
    )
)
_DABNET_E = tuple(name.replace("r18", "efficientnetb1") for name in _DABNET)
_TF2_XCEPTION = ("bisenetv1_tf2_xception_cityscapes_640x640_952k",)
_R18 = ("bisenetv1_torchseg_cityscapes_1024x1024_80k", _CC1.format("cityscapes"))

# System and layout -> configurations, that of the published checkpoint first, with `--opts` where
# more than the network differs. `recipes_of` adds those that make it the layout's network.
CONFIGS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("coincheung", "v1"): (
        _CC1.format("cityscapes"),
        "bisenetv1_coincheung_coco_stuff164k_512x512_90k",
        "bisenetv1_coincheung_ade20k_512x512_40k",
    ),
    **{
        ("coincheung", f"v1_{date}"): (_CC1.format(f"{name}_cityscapes"),)
        for date, name in (
            ("202107", "202107"),
            ("202009", "202009"),
            ("202008", "202008"),
            ("2019abn", "2019"),
            ("2019diss", "2019_diss"),
        )
    },
    ("face_parsing", "face_parsing"): ("bisenetv1_face_parsing_celebamaskhq_448x448_80k",),
    ("coincheung", "v2"): (
        _CC2.format("cityscapes"),
        "bisenetv2_coincheung_coco_stuff164k_640x640_180k",
        "bisenetv2_coincheung_ade20k_640x640_160k",
    ),
    **{
        ("coincheung", f"v2_{date}"): (_CC2.format(f"{date}_cityscapes"),)
        for date in ("202009", "202008")
    },
    ("coincheung", "v2_backbone"): (_CC2.format("cityscapes"),),
    ("torchseg", "r18"): ("bisenetv1_torchseg_cityscapes_1024x1024_80k",),
    ("torchseg", "r18speed"): ("bisenetv1_torchseg_r18speed_cityscapes_1024x1024_80k",),
    ("torchseg", "r101"): ("bisenetv1_torchseg_r101_cityscapes_1024x1024_80k",),
    ("torchseg", "x39"): _X39,
    ("torchseg", "x39speed"): _X39,
    ("torchseg", "resnet101_v1c"): ("bisenetv1_torchseg_r101_cityscapes_1024x1024_80k",),
    **{("stdc", f"stdc813_{norm}"): (_STDC1,) for norm in ("abn", "imagenet")},
    ("stdc", "stdc813_bn"): (
        _STDC1,
        "stdc1_seg_2classes_192x192_40k",
        "stdc1_seg_4classes_192x192_40k",
    ),
    **{("stdc", f"stdc1446_{norm}"): (_STDC2,) for norm in ("abn", "bn", "imagenet")},
    ("stdc", "stdc813_cutnet"): (
        _CUTNET,
        "stdc1_seg_cutnet_2classes_128x96_40k",
        "stdc1_seg_cutnet_4classes_192x192_40k",
    ),
    ("stdc", "stdc1446_cutnet"): (_CUTNET,),
    ("stdc", "stdc813_delnet"): (
        "stdc1_seg_delnet_cityscapes_1024x512_60k",
        "stdc1_seg_delnet_2classes_128x96_40k",
    ),
    **{("dabnet", f"r18_p{patch}"): _DABNET for patch in (1, 2, 4, 8, 16)},
    ("dabnet", "e"): _DABNET_E,
    **{
        ("dabnet", f"r18_{name}"): (f"dabnet_r18_{name}_cityscapes_1024x1024_80k",)
        for name in ("channel", "pce01", "pce02")
    },
    **{
        ("dabnet", f"r18_{name}"): _DABNET[:1]
        for name in ("spatial", "pce", "pce0", "image", "fcn", "baseline")
    },
    ("timm", "efficientnet_b1"): _DABNET_E[:1],
    ("mmseg", "bisenetv1_r18"): ("bisenetv1_mmseg_cityscapes_1024x1024_160k",),
    ("mmseg", "bisenetv1_r50"): ("bisenetv1_mmseg_r50_cityscapes_1024x1024_160k",),
    ("mmseg", "bisenetv1_r101"): ("bisenetv1_mmseg_r50_cityscapes_1024x1024_160k",),
    ("mmseg", "bisenetv2"): ("bisenetv2_mmseg_cityscapes_1024x1024_160k",),
    ("mmseg", "stdc1"): (f"{_STDC1} {_WHOLE}",),
    ("mmseg", "stdc2"): (f"{_STDC2} {_WHOLE}",),
    ("mmseg", "resnet18_v1c"): _DABNET[:1],
    ("mmseg", "resnet18_v1c_layers"): ("bisenetv1_mmseg_cityscapes_1024x1024_160k",),
    ("mmseg", "resnet50_v1c_layers"): ("bisenetv1_mmseg_r50_cityscapes_1024x1024_160k",),
    ("mmseg", "resnet101_v1c_layers"): ("bisenetv1_mmseg_r50_cityscapes_1024x1024_160k",),
    ("paddleseg", "stdc813"): ("stdc1_seg_paddleseg_cityscapes_1024x512_80k",),
    ("paddleseg", "stdc1446"): ("stdc2_seg_paddleseg_cityscapes_1024x512_80k",),
    ("paddleseg", "stdc813_backbone"): ("stdc1_seg_paddleseg_cityscapes_1024x512_80k",),
    ("paddleseg", "stdc1446_backbone"): ("stdc2_seg_paddleseg_cityscapes_1024x512_80k",),
    ("paddleseg", "bisenetv2"): ("bisenetv2_paddleseg_cityscapes_1024x512_160k",),
    ("paddleseg", "bisenetv1"): ("bisenetv1_paddleseg_cityscapes_1024x512_160k",),
    ("paddleseg", "resnet18_vd"): ("bisenetv1_paddleseg_cityscapes_1024x512_160k",),
    ("tf2", "v2"): (
        "bisenetv2_tf2_cityscapes_1024x512_168k",
        "bisenetv2_tf2_celebamaskhq_448x448_207k",
    ),
    ("tf2", "v1_xception"): _TF2_XCEPTION,
    ("tf2", "v1_xception_raw"): _TF2_XCEPTION,
    ("torchvision", "resnet18"): _R18,
    ("torchvision", "resnet50"): ("bisenetv1_mmseg_r50_cityscapes_1024x1024_160k",),
    ("torchvision", "resnet101"): ("bisenetv1_mmseg_r50_cityscapes_1024x1024_160k",),
}


@dataclass(frozen=True)
class ShippedConfig:
    """A shipped configuration with the network of a checkpoint layout.

    Attributes:
        name: what `--config` takes, and the `--opts` if it needs any.
        config: both of them applied.
    """

    name: str
    config: Config

    @property
    def num_classes(self) -> int:
        """Classes of its data set."""
        return class_table_of(self.config).num_classes

    def with_classes(self, num_classes: int) -> Config:
        """The configuration with an own data set of that many classes, which have numbers only."""
        raw = copy.deepcopy(self.config.raw)
        for mode in ("train", "val"):
            section = raw[f"{mode}_dataset"]
            raw[f"{mode}_dataset"] = {
                "type": "ListDataset",
                "dataset_root": "data",
                "mode": mode,
                f"{mode}_path": f"{mode}.txt",
                "num_classes": num_classes,
                "transforms": section.get("transforms", []),
            }
        return check_config(raw, self.config.path)


def recipes_of(generation: Generation) -> list[ShippedConfig]:
    """The configurations of a layout's published checkpoints."""
    recipes = []
    for entry in CONFIGS[generation.system, generation.name]:
        name, *opts = entry.split()
        wrong = differences(load_config(name).model, generation.model)
        opts = [f"{key}={_yml(wanted)}" for key, (_, wanted) in wrong.items()] + opts
        spelled = f"{name} --opts {' '.join(opts)}" if opts else name
        recipes.append(ShippedConfig(spelled, load_config(name, opts)))
    return recipes


def count_classes(
    generation: Generation, arrays: Mapping[str, "np.ndarray"], source: str, recipe: ShippedConfig
) -> int:
    """The class count of a whole network's checkpoint, by the width of its main classifier.

    That is compared with the width in the recipe's network, because a head with pixel shuffle has
    several channels per class. A file without the classifier has the recipe's count: loading names
    what is missing.
    """
    known = recipe.num_classes
    state = build_model(recipe.config, known).state_dict()
    found = generation.rename(arrays, source, state).arrays.get(_CLASSIFIER)
    return known if found is None else found.shape[0] * known // state[_CLASSIFIER].shape[0]


def fitting(recipes: Sequence[ShippedConfig], num_classes: int) -> list[ShippedConfig]:
    """Those with that many classes; all of them where none has."""
    return [recipe for recipe in recipes if recipe.num_classes == num_classes] or list(recipes)


def check_network(config: Config, generation: Generation) -> str:
    """The options of a configuration that are not those which a layout's weights need.

    Returns:
        A text for messages, with the `--opts` that correct them where the network's type is
        right; empty if nothing differs.

    Raises:
        UsageError: the configuration has no network of this package.
    """
    if config.only_paddleseg:
        raise UsageError(f"{config.path}: 'registry: paddleseg' leaves no network of ours to fill")
    wrong = differences(config.model, generation.model)
    if not wrong:
        return ""
    text = ", ".join(f"{key} is {value}" for key, (value, _) in wrong.items())
    if "model.type" in wrong:
        return text
    opts = " ".join(f"{key}={_yml(wanted)}" for key, (_, wanted) in wrong.items())
    return f"{text} (needs --opts {opts})"


def _yml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def differences(
    spec: Mapping[str, Any], wanted: Mapping[str, Any], where: str = "model"
) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (the yml's value or its default, the value needed), where they differ."""
    wrong: dict[str, tuple[Any, Any]] = {}
    defaults = _defaults(wanted["type"], where) if "type" in wanted else {}
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            inner = spec.get(key)
            section = inner if isinstance(inner, Mapping) else {}
            wrong |= differences(section, value, f"{where}.{key}")
        else:
            found = spec.get(key, None if key == "type" else defaults.get(key))
            if found != value:
                wrong[f"{where}.{key}"] = (found, value)
    if f"{where}.type" not in wrong:
        # These weights need the default of any other option that changes the arithmetic.
        wrong |= {
            f"{where}.{key}": (spec[key], default)
            for key, default in defaults.items()
            if key in _ARITHMETIC and key not in wanted and spec.get(key, default) != default
        }
    return wrong


def _defaults(type_name: str, where: str) -> dict[str, Any]:
    registry = BACKBONES if where.endswith("backbone") else MODELS
    parameters = inspect.signature(registry.find(type_name)).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}
