"""What a file of weights is of: which of SAM's parts, with which encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from training.model.backbones import BACKBONES

ENCODER, PROMPTS, DECODER = "image_encoder.", "prompt_encoder.", "mask_decoder."
HQ_PARTS = (
    "hf_token.",
    "hf_mlp.",
    "compress_vit_feat.",
    "embedding_encoder.",
    "embedding_maskfeature.",
)

_HQ_PREFIXES = tuple(DECODER + part for part in HQ_PARTS)
_DECODER_PARTS = ("transformer.", "iou_token.", "mask_tokens.", *HQ_PARTS)
_TINY_STEM = "image_encoder.patch_embed.seq.0.c.weight"
_TINY_WIDTH = "image_encoder.layers.2.blocks.0.attn.qkv.weight"
_VIT_STEM = "image_encoder.patch_embed.proj.weight"
_EARLY = "mask_decoder.compress_vit_feat.0.weight"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file of weights holds, under the names that public HQ-SAM checkpoints have.

    Attributes:
        sam: SAM's part.
        hq: the HQ decoder's part.
        backbone: the name of the encoder it is of or made for; None if that is none of ours.
        encoder: that encoder in words.
        is_decoder_only: whether it holds SAM's mask decoder and no encoder.
    """

    sam: dict[str, Tensor]
    hq: dict[str, Tensor]
    backbone: str | None
    encoder: str
    is_decoder_only: bool

    @property
    def has_encoder(self) -> bool:
        """Whether the image encoder is among it."""
        return any(name.startswith(ENCODER) for name in self.sam)

    def in_words(self) -> str:
        """As a phrase for messages."""
        hq = f"the HQ token for {self.encoder}"
        if self.has_encoder:
            return f"SAM with {self.encoder}" + (" and its HQ token" if self.hq else "")
        if self.is_decoder_only:
            return "a mask decoder alone" + (f", with {hq}" if self.hq else "")
        if self.hq:
            return f"{hq} alone"
        return "weights of something else"


def recognise(tensors: Mapping[str, Tensor]) -> Contents:
    """Tells what some weights are of, by names and shapes alone."""
    named = dict(tensors)
    if named and all(name.startswith("module.") for name in named):
        named = {name.removeprefix("module."): value for name, value in named.items()}
    if not any(name.startswith((ENCODER, PROMPTS, DECODER)) for name in named) and any(
        name.startswith(_DECODER_PARTS) for name in named
    ):
        # The public training program saves the mask decoder by itself.
        named = {DECODER + name: value for name, value in named.items()}
    hq = {name: value for name, value in named.items() if name.startswith(_HQ_PREFIXES)}
    sam = {name: value for name, value in named.items() if name not in hq}
    backbone, words = _encoder(named)
    has_decoder = any(name.startswith(DECODER + "transformer.") for name in sam)
    has_encoder = any(name.startswith(ENCODER) for name in sam)
    return Contents(sam, hq, backbone, words, has_decoder and not has_encoder)


def _encoder(named: Mapping[str, Tensor]) -> tuple[str | None, str]:
    if _VIT_STEM in named:
        return _plain_transformer(named)
    if _TINY_STEM in named:
        early = _shape(named, _TINY_WIDTH)[-1]
        if early == BACKBONES["vit_tiny"].early_dim:
            return "vit_tiny", "vit_tiny"
        return None, "a TinyViT of another size"
    if _EARLY in named:
        early = _shape(named, _EARLY)[0]
        for name, backbone in BACKBONES.items():
            if backbone.early_dim == early:
                return name, name
        return None, f"an encoder of width {early}"
    return None, "an unknown encoder"


def _plain_transformer(named: Mapping[str, Tensor]) -> tuple[str | None, str]:
    shape = _shape(named, _VIT_STEM)
    width, patch = shape[0], shape[-1]
    start = ENCODER + "blocks."
    depth = len({n.removeprefix(start).split(".")[0] for n in named if n.startswith(start)})
    for name, backbone in BACKBONES.items():
        vit = backbone.vit
        if vit and (vit.width, vit.depth, backbone.patch_size) == (width, depth, patch):
            return name, name
    return None, f"a transformer of width {width} and depth {depth}"


def _shape(named: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """The shape of a tensor; of one that is not there or a scalar, something that fits nowhere."""
    return tuple(named[name].shape) or (0,) if name in named else (0,)
