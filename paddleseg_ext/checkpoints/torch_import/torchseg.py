"""TorchSeg's BiSeNet (the paper's author): https://github.com/ycszen/TorchSeg model/bisenet."""

from paddleseg_ext.checkpoints.torch_import.mapping import Rule

RULES = (
    Rule(r"context_path\.(.+)", r"backbone.\1"),
    Rule(r"spatial_path\.conv_7x7\.(conv|bn)", r"spatial_path.0.\1"),
    Rule(r"spatial_path\.conv_3x3_1\.(conv|bn)", r"spatial_path.1.\1"),
    Rule(r"spatial_path\.conv_3x3_2\.(conv|bn)", r"spatial_path.2.\1"),
    Rule(r"spatial_path\.conv_1x1\.(conv|bn)", r"spatial_path.3.\1"),
    Rule(r"global_context\.1\.(conv|bn)", r"context_path.global_context.\1"),
    Rule(r"arms\.0\.conv_3x3\.(conv|bn)", r"context_path.arm32.conv.\1"),
    Rule(r"arms\.0\.channel_attention\.1\.(conv|bn)", r"context_path.arm32.gate.\1"),
    Rule(r"arms\.1\.conv_3x3\.(conv|bn)", r"context_path.arm16.conv.\1"),
    Rule(r"arms\.1\.channel_attention\.1\.(conv|bn)", r"context_path.arm16.gate.\1"),
    Rule(r"refines\.0\.(conv|bn)", r"context_path.refine32.\1"),
    Rule(r"refines\.1\.(conv|bn)", r"context_path.refine16.\1"),
    Rule(r"ffm\.conv_1x1\.(conv|bn)", r"ffm.conv.\1"),
    Rule(r"ffm\.channel_attention\.1\.conv", r"ffm.gate.0"),
    Rule(r"ffm\.channel_attention\.2\.conv", r"ffm.gate.2"),
    Rule(r"heads\.0\.conv_3x3\.(conv|bn)", r"aux_head16.conv.\1"),
    Rule(r"heads\.0\.conv_1x1", r"aux_head16.classifier"),
    Rule(r"heads\.1\.conv_3x3\.(conv|bn)", r"aux_head8.conv.\1"),
    Rule(r"heads\.1\.conv_1x1", r"aux_head8.classifier"),
    Rule(r"heads\.2\.conv_3x3\.(conv|bn)", r"head.conv.\1"),
    Rule(r"heads\.2\.conv_1x1", r"head.classifier"),
)
