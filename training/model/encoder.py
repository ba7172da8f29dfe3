"""SAM's image encoder as its makers ship it, and the early feature taken out of it by a hook."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from training.model.backbones import PROMPT_DIM, Backbone


@dataclass(frozen=True, slots=True)
class Features:
    """What the frozen encoder says of some images; all that the decoders need.

    Attributes:
        embedding: float32 (b, 256, e, e).
        early: float32 (b, e, e, c), the early feature, channels last as the encoder has it.
    """

    embedding: Tensor
    early: Tensor

    def __len__(self) -> int:
        """Images."""
        return len(self.embedding)

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> Features:
        """Those of some of the images."""
        return Features(self.embedding[index], self.early[index])

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Features:
        """The same on a device."""
        return Features(
            self.embedding.to(device, non_blocking=non_blocking),
            self.early.to(device, non_blocking=non_blocking),
        )


class EarlyTap:
    """Takes the output of one module out of the forward pass of a larger one.

    The hook is set once and keeps nothing but the value of a call under way: a call says that it
    wants it, and takes it. Calls in other threads, or by others who use the same module, neither
    see it nor leave anything here.
    """

    def __init__(self, module: nn.Module) -> None:
        self._wanted: dict[int, Tensor | None] = {}
        module.register_forward_hook(self._hook)

    # A compiled encoder is cut here: which thread is running is not known when it is compiled.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _hook(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        thread = threading.get_ident()
        if thread in self._wanted:
            self._wanted[thread] = output

    def run(self, whole: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """The output of the larger module, and that of the tapped one within it."""
        thread = threading.get_ident()
        self._wanted[thread] = None
        try:
            output = whole(images)
        finally:
            early = self._wanted.pop(thread)
        if early is None:
            raise RuntimeError("the tapped module is not part of the one that ran")
        return cast(Tensor, output), early


def build_image_encoder(backbone: Backbone) -> nn.Module:
    """An image encoder with random weights: normalised (b, 3, s, s) -> (b, 256, e, e)."""
    vit = backbone.vit
    if vit is None:
        # timm takes seconds to import: only whoever uses it waits.
        from training.model.tiny_vit import MobileImageEncoder

        return MobileImageEncoder(backbone)
    encoder = ImageEncoderViT(
        img_size=backbone.image_size,
        patch_size=backbone.patch_size,
        embed_dim=vit.width,
        depth=vit.depth,
        num_heads=vit.num_heads,
        mlp_ratio=4,
        out_chans=PROMPT_DIM,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=vit.window_size,
        global_attn_indexes=vit.global_blocks,
    )
    for name, parameter in encoder.named_parameters():
        if name == "pos_embed" or ".rel_pos_" in name:
            # They start at zero there; without them random weights know nothing of places.
            nn.init.trunc_normal_(parameter, std=0.02)
    return cast(nn.Module, encoder)


def early_module(encoder: nn.Module, backbone: Backbone) -> nn.Module:
    """The module whose output is the early feature.

    The first block with global attention of a plain transformer, (b, e, e, c); in TinyViT, what
    merges patches at the end of the second stage, (b, c, e, e) (paper, section 3.2).
    """
    if backbone.vit is None:
        return cast(nn.Module, encoder.early)
    blocks = cast(nn.ModuleList, encoder.blocks)
    return blocks[backbone.vit.global_blocks[0]]
