"""The image encoder of MobileSAM: TinyViT-5M from timm with SAM's neck, under MobileSAM's names."""

from __future__ import annotations

import re
from typing import Any, cast

from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import TinyVit
from torch import Tensor, nn

from training.model.backbones import PROMPT_DIM, Backbone

_NUM_CLASSES = 1000
"""Classes of the head that MobileSAM's checkpoints carry along and nobody uses."""


class MobileImageEncoder(nn.Module):
    """Normalised pixels (b, 3, s, s) to an image embedding (b, 256, s / 16, s / 16).

    It is TinyViT but for the last merging of patches, which keeps the resolution.

    Args:
        backbone: for its input size.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.img_size = backbone.image_size
        width = 320
        trunk: Any = TinyVit(
            embed_dims=(64, 128, backbone.early_dim, width),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
            num_classes=0,
        )
        trunk.head = nn.Identity()
        trunk.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.trunk = cast(nn.Module, trunk)
        # Only so that a checkpoint goes out as it came in.
        self.norm_head = nn.LayerNorm(width)
        self.head = nn.Linear(width, _NUM_CLASSES)
        self.neck = nn.Sequential(
            nn.Conv2d(width, PROMPT_DIM, kernel_size=1, bias=False),
            LayerNorm2d(PROMPT_DIM),
            nn.Conv2d(PROMPT_DIM, PROMPT_DIM, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(PROMPT_DIM),
        )
        self.register_load_state_dict_post_hook(_forget_biases)  # type: ignore[no-untyped-call]

    @property
    def early(self) -> nn.Module:
        """What merges patches at the end of MobileSAM's `layers[1]`; timm has it one stage later.

        Its output is (b, 160, s / 16, s / 16).
        """
        return cast(Any, self.trunk).stages[2].downsample  # type: ignore[no-any-return]

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 (b, 256, s / 16, s / 16)."""
        tokens = cast(Any, self.trunk).forward_features(pixels)
        return cast(Tensor, self.neck(tokens))


def _forget_biases(encoder: nn.Module, keys: Any) -> None:
    """timm keeps looked-up biases of attention; new parameters make them stale."""
    module: Any
    for module in encoder.modules():
        if hasattr(module, "attention_bias_cache"):
            module.attention_bias_cache = {}


def mobile_sam_name(name: str) -> str:
    """The name that MobileSAM has for an entry of `MobileImageEncoder.state_dict()`."""
    if not name.startswith("trunk."):
        return name
    name = name.removeprefix("trunk.").replace(".conv.", ".c.")
    name = name.replace("patch_embed.conv1.", "patch_embed.seq.0.")
    name = name.replace("patch_embed.conv2.", "patch_embed.seq.2.")
    merging = re.match(r"stages\.(\d+)\.downsample\.", name)
    if merging:
        # There, a stage ends with the merging that begins the next one here.
        return f"layers.{int(merging[1]) - 1}.downsample.{name[merging.end() :]}"
    return name.replace("stages.", "layers.", 1)
