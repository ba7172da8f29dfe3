"""The HQ token and what belongs to it: the only part that is trained.

It stands beside SAM's frozen mask decoder and borrows its transformer, tokens and upscaling; it
owns none of them. Names of parameters are those of the public HQ-SAM checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn

from training.model.backbones import MASK_DIM, PROMPT_DIM
from training.model.encoder import Features
from training.model.prompt_groups import PromptGroup, indices_on

NUM_MASK_TOKENS = 4
"""Tokens of SAM's own masks: one for a single mask, three for a choice."""

_FIRST_MASK_TOKEN = 1  # after the token of the predicted IoU
_HQ_TOKEN = _FIRST_MASK_TOKEN + NUM_MASK_TOKENS


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a pass through the decoder gives; low resolution.

    Attributes:
        hq: float32 (b, 1, m, m), logits of the HQ token.
        sam: float32 (b, 4, m, m), logits of SAM's tokens; None if nobody asked.
        iou: float32 (b, 4), the IoU that SAM expects of them; None if nobody asked.
    """

    hq: Tensor
    sam: Tensor | None
    iou: Tensor | None


class HqDecoder(nn.Module):
    """Token, hypernetwork and fusion of features of HQ-SAM (paper, section 3.2).

    Args:
        early_dim: channels of the early feature.
    """

    def __init__(self, early_dim: int) -> None:
        super().__init__()
        self.hf_token = nn.Embedding(1, PROMPT_DIM)
        self.hf_mlp = MLP(PROMPT_DIM, PROMPT_DIM, MASK_DIM, 3)
        self.compress_vit_feat = _upscaling(early_dim, PROMPT_DIM)
        self.embedding_encoder = _upscaling(PROMPT_DIM, PROMPT_DIM // 4)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(MASK_DIM, PROMPT_DIM // 4, 3, padding=1),
            LayerNorm2d(PROMPT_DIM // 4),
            nn.GELU(),
            nn.Conv2d(PROMPT_DIM // 4, MASK_DIM, 3, padding=1),
        )

    def hq_features(self, features: Features) -> Tensor:
        """float32 (b, 32, m, m): early detail and late meaning in one, the same for all prompts."""
        early = features.early.permute(0, 3, 1, 2)
        fused: Tensor = self.embedding_encoder(features.embedding) + self.compress_vit_feat(early)
        return fused

    def forward(
        self,
        decoder: nn.Module,
        features: Features,
        image_pe: Tensor,
        groups: list[PromptGroup],
        *,
        with_sam: bool = False,
    ) -> Decoded:
        """Decodes one prompt an image, or many prompts of one image.

        Args:
            decoder: SAM's mask decoder.
            features: of n images or of 1.
            image_pe: float32 (1, 256, e, e), SAM's encoding of places.
            groups: the n prompts.
            with_sam: compute SAM's own masks and IoUs too.
        """
        tokens = torch.cat([_sam_tokens(decoder), self.hf_token.weight])
        hs, source = run_transformer(decoder, tokens, features.embedding, image_pe, groups)
        upscaled: Tensor = decoder.output_upscaling(source)  # type: ignore[operator]
        detailed = self.embedding_maskfeature(upscaled) + self.hq_features(features)
        hq = _masks(self.hf_mlp(hs[:, _HQ_TOKEN]).unsqueeze(1), detailed)
        if not with_sam:
            return Decoded(hq, None, None)
        return Decoded(hq, *_sam_masks(decoder, hs, upscaled))


def decode_sam(
    decoder: nn.Module, features: Features, image_pe: Tensor, groups: list[PromptGroup]
) -> tuple[Tensor, Tensor]:
    """SAM's masks as SAM gives them, without the HQ token; see `HqDecoder.forward`.

    Returns:
        float32 (n, 4, m, m) logits and (n, 4) expected IoU.
    """
    tokens = _sam_tokens(decoder)
    hs, source = run_transformer(decoder, tokens, features.embedding, image_pe, groups)
    return _sam_masks(decoder, hs, decoder.output_upscaling(source))  # type: ignore[operator]


def run_transformer(
    decoder: nn.Module,
    tokens: Tensor,
    embedding: Tensor,
    image_pe: Tensor,
    groups: list[PromptGroup],
) -> tuple[Tensor, Tensor]:
    """The two-way transformer over prompts of all kinds, one run a group.

    SAM's attention knows no padding, and prompts of different kinds have different numbers of
    tokens. Everything after it is the same for all kinds and runs over the whole batch.

    Args:
        decoder: SAM's mask decoder.
        tokens: float32 (t, 256), the output tokens.
        embedding: float32 (n, 256, e, e) or (1, 256, e, e).
        image_pe: float32 (1, 256, e, e).
        groups: the n prompts.

    Returns:
        The output tokens (n, t, 256) and the image embedding (n, 256, e, e), in order of samples.
    """
    number = sum(len(group.indices) for group in groups)
    if len(embedding) not in (1, number):
        raise ValueError(f"{number} prompts for {len(embedding)} images")
    parts = [
        _run_group(decoder, tokens, _rows(embedding, group, number), image_pe, group)
        for group in groups
    ]
    hs, keys = (torch.cat(values) if len(parts) > 1 else values[0] for values in zip(*parts))  # noqa: B905
    if len(groups) > 1:
        places = [index for group in groups for index in group.indices]
        order = indices_on(embedding.device, sorted(range(number), key=places.__getitem__))
        hs, keys = hs[order], keys[order]
    side = embedding.shape[-1]
    return hs, keys.transpose(1, 2).reshape(number, -1, side, side)


def _rows(embedding: Tensor, group: PromptGroup, number: int) -> Tensor:
    """The images of a group; a view where it is all of them, or one image stands for all."""
    if len(embedding) == 1:
        return embedding.expand(len(group.indices), -1, -1, -1)
    return embedding if len(group.indices) == number else embedding[group.rows]


def _run_group(
    decoder: nn.Module, tokens: Tensor, embedding: Tensor, image_pe: Tensor, group: PromptGroup
) -> tuple[Tensor, Tensor]:
    number = len(group.indices)
    queries = torch.cat([tokens.expand(number, -1, -1), group.sparse], dim=1)
    source = embedding + group.dense
    places = image_pe.expand(number, -1, -1, -1)
    hs, keys = decoder.transformer(source, places, queries)  # type: ignore[operator]
    return hs[:, : len(tokens)], keys


def _sam_tokens(decoder: nn.Module) -> Tensor:
    """float32 (5, 256)."""
    iou, masks = cast(nn.Embedding, decoder.iou_token), cast(nn.Embedding, decoder.mask_tokens)
    return torch.cat([iou.weight, masks.weight])


def _sam_masks(decoder: nn.Module, hs: Tensor, upscaled: Tensor) -> tuple[Tensor, Tensor]:
    networks = cast(nn.ModuleList, decoder.output_hypernetworks_mlps)
    weights = [net(hs[:, _FIRST_MASK_TOKEN + i]) for i, net in enumerate(networks)]
    iou: Tensor = decoder.iou_prediction_head(hs[:, 0])  # type: ignore[operator]
    return _masks(torch.stack(weights, dim=1), upscaled), iou


def _masks(weights: Tensor, features: Tensor) -> Tensor:
    """float32 (n, k, m, m) from (n, k, 32) and (n or 1, 32, m, m)."""
    number, height, width = len(weights), *features.shape[-2:]
    return (weights @ features.flatten(2)).view(number, -1, height, width)


def _upscaling(num_in: int, num_between: int) -> nn.Sequential:
    """From the embedding's side to that of the masks."""
    return nn.Sequential(
        nn.ConvTranspose2d(num_in, num_between, kernel_size=2, stride=2),
        LayerNorm2d(num_between),
        nn.GELU(),
        nn.ConvTranspose2d(num_between, MASK_DIM, kernel_size=2, stride=2),
    )
