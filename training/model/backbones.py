"""The image encoders that HQ-SAM comes with, and a small one that ships with the package."""

from __future__ import annotations

from dataclasses import dataclass

from hqdata.errors import UserError, nearest

PROMPT_DIM = 256
"""Channels of SAM's image embedding, prompts and tokens, whatever the encoder."""

MASK_DIM = PROMPT_DIM // 8
"""Channels of the features that a token's mask is the product with."""


@dataclass(frozen=True, slots=True)
class Vit:
    """A plain vision transformer with windowed attention in all but a few blocks.

    Attributes:
        width: channels of a token.
        depth: blocks.
        num_heads: heads of attention.
        window_size: tokens on a side of a window.
        global_blocks: the blocks that attend to the whole picture, from 0.
    """

    width: int
    depth: int
    num_heads: int
    window_size: int
    global_blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Backbone:
    """One of SAM's image encoders.

    Attributes:
        name: as users write it.
        title: as papers write it.
        image_size: side of the input in pixels.
        patch_size: pixels on a side of a cell of the embedding.
        early_dim: channels of the early feature.
        vit: its shape; None for TinyViT-5M, which is no plain transformer.
        checkpoint_name: the file of SAM's weights that its makers give out; None if there is none.
        decoder_mlp_dim: channels within the mask decoder's two-way transformer.
    """

    name: str
    title: str
    image_size: int
    patch_size: int
    early_dim: int
    vit: Vit | None
    checkpoint_name: str | None
    decoder_mlp_dim: int = 2048

    @property
    def embedding_size(self) -> int:
        """Cells on a side of the image embedding, and of the early feature."""
        return self.image_size // self.patch_size

    @property
    def mask_size(self) -> int:
        """Side of the masks in low resolution that the decoder takes and gives."""
        return 4 * self.embedding_size


BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            "vit_b", "ViT-B", 1024, 16, 768, Vit(768, 12, 12, 14, (2, 5, 8, 11)),
            "sam_vit_b_01ec64.pth",
        ),
        Backbone(
            "vit_l", "ViT-L", 1024, 16, 1024, Vit(1024, 24, 16, 14, (5, 11, 17, 23)),
            "sam_vit_l_0b3195.pth",
        ),
        Backbone(
            "vit_h", "ViT-H", 1024, 16, 1280, Vit(1280, 32, 16, 14, (7, 15, 23, 31)),
            "sam_vit_h_4b8939.pth",
        ),
        Backbone("vit_tiny", "TinyViT", 1024, 16, 160, None, "mobile_sam.pt"),
        Backbone(
            "vit_micro", "ViT-micro", 256, 16, 128, Vit(128, 6, 4, 8, (2, 5)), None,
            decoder_mlp_dim=1024,
        ),
    )
}  # fmt: skip


def find_backbone(name: str) -> Backbone:
    """The backbone of a name.

    Raises:
        UserError: there is none of that name.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    raise UserError(
        f"unknown model {name!r}{nearest(name, BACKBONES)}", expected=", ".join(BACKBONES)
    )
