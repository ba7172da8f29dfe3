"""Models with weights as different from one another as trained ones, and prompts for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from segment_anything_hq import sam_model_registry
from segment_anything_hq.modeling import (
    ImageEncoderViT,
    MaskDecoderHQ,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor, nn

from training.model.backbones import Backbone
from training.model.hq_sam import HqSam
from training.prompts import Kind, Prompts

NUM_POINTS = 10


@torch.no_grad()
def enliven(model: nn.Module, seed: int) -> None:
    """Gives values to all that starts as zero or one: norms, biases, places, statistics."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        last = name.rsplit(".", 1)[-1]
        if "rel_pos" in last or last in ("pos_embed", "attention_biases"):
            value.normal_(std=0.2, generator=generator)
        elif last == "running_var":
            value.uniform_(0.5, 1.5, generator=generator)
        elif last == "running_mean":
            value.normal_(std=0.1, generator=generator)
        elif value.is_floating_point() and value.ndim == 1 and "pixel" not in last:
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.1)


def reference_for(model: HqSam) -> Sam:
    """The public package's model with the same weights in the same memory; plain transformers."""
    backbone = model.backbone
    with torch.device("meta"):
        sam = _reference(backbone)
    state = {f"image_encoder.{n}": v for n, v in model.sam.image_encoder.state_dict().items()}
    state |= {f"prompt_encoder.{n}": v for n, v in model.sam.prompt_encoder.state_dict().items()}
    for part in (model.sam.mask_decoder, model.hq):
        state |= {f"mask_decoder.{name}": value for name, value in part.state_dict().items()}
    sam.load_state_dict(state, strict=True, assign=True)
    return sam.eval()


def reference_names(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the public package's checkpoints."""
    if backbone.vit is None:
        sam = sam_model_registry[backbone.name]()
    else:
        with torch.device("meta"):
            sam = _reference(backbone)
    return {name: tuple(value.shape) for name, value in sam.state_dict().items()}


def _reference(backbone: Backbone) -> Sam:
    vit, side = backbone.vit, backbone.embedding_size
    return Sam(
        ImageEncoderViT(
            depth=vit.depth,
            embed_dim=vit.width,
            img_size=backbone.image_size,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            num_heads=vit.num_heads,
            patch_size=backbone.patch_size,
            use_rel_pos=True,
            global_attn_indexes=vit.global_blocks,
            window_size=vit.window_size,
        ),
        PromptEncoder(
            embed_dim=256,
            image_embedding_size=(side, side),
            input_image_size=(backbone.image_size, backbone.image_size),
            mask_in_chans=16,
        ),
        MaskDecoderHQ(
            transformer_dim=256,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=256, mlp_dim=backbone.decoder_mlp_dim, num_heads=8
            ),
            vit_dim=backbone.early_dim,
        ),
    )


def some_images(backbone: Backbone, number: int, seed: int = 0) -> Tensor:
    """uint8 (number, s, s, 3): coarse shapes under fine noise, so that places differ."""
    generator = torch.Generator().manual_seed(seed)
    side = backbone.image_size
    coarse = torch.rand(number, 3, 9, 9, generator=generator) * 200
    wide = nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 200)
    noise = torch.rand(number, 3, side, side, generator=generator) * 55
    return (wide + noise).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def some_prompts(backbone: Backbone, kinds: Sequence[Kind], seed: int = 0) -> Prompts:
    """Prompts of these kinds; what is not of a sample's kind is filled with nonsense."""
    generator = torch.Generator().manual_seed(seed)
    number, side, small = len(kinds), backbone.image_size, backbone.mask_size
    corners = torch.rand(number, 2, 2, generator=generator).sort(dim=1).values * (side - 1)
    points = torch.rand(number, NUM_POINTS, 2, generator=generator) * (side - 1)
    labels = torch.randint(0, 2, (number, NUM_POINTS), generator=generator, dtype=torch.int32)
    masks = torch.rand(number, 1, small, small, generator=generator) < 0.3
    return Prompts(tuple(kinds), corners.flatten(1), points, labels, masks.to(torch.uint8) * 255)


def one_prompt(prompts: Prompts, index: int) -> Prompts:
    """One of several prompts."""
    rows = slice(index, index + 1)
    return Prompts(
        prompts.kinds[rows],
        prompts.boxes[rows],
        prompts.points[rows],
        prompts.labels[rows],
        prompts.masks[rows],
    )


def public_arguments(
    prompts: Prompts, index: int
) -> dict[str, Tensor | tuple[Tensor, Tensor] | None]:
    """One prompt as the public packages' prompt encoders take it."""
    one, kind = one_prompt(prompts, index), prompts.kinds[index]
    return {
        "boxes": one.boxes if kind is Kind.BOX else None,
        "points": (one.points, one.labels) if kind is Kind.POINT else None,
        "masks": one.masks.float() if kind is Kind.MASK else None,
    }
