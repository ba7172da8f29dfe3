"""SAM, frozen, with the HQ decoder beside it: what is trained, evaluated and used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from training.model.backbones import PROMPT_DIM, Backbone
from training.model.encoder import EarlyTap, Features, build_image_encoder, early_module
from training.model.hq_decoder import HqDecoder, decode_sam
from training.model.prompt_groups import PromptGroup, embed_prompts
from training.prompts import Prompts

Precision = Literal["fp32", "bf16"]
"""In what the frozen encoder computes; everything else is in float32 always."""

_PIXEL_MEAN = [123.675, 116.28, 103.53]
_PIXEL_STD = [58.395, 57.12, 57.375]


class HqSam(nn.Module):
    """SAM and the HQ decoder.

    SAM has no gradients and stays in evaluation mode whatever `train` says.

    Args:
        backbone: which of SAM's encoders `sam` has.
        sam: SAM.
        hq: the HQ decoder for it.
        precision: of the encoder.
    """

    def __init__(
        self, backbone: Backbone, sam: Sam, hq: HqDecoder, *, precision: Precision = "fp32"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.precision = precision
        self.sam = sam
        self.hq = hq
        self._tap = EarlyTap(early_module(sam.image_encoder, backbone))
        self.sam.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> HqSam:
        """Sets the mode of the HQ decoder."""
        super().train(mode)
        self.sam.eval()
        return self

    def hq_parameters(self) -> Iterator[nn.Parameter]:
        """The trained parameters."""
        return self.hq.parameters()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Features:
        """What the frozen encoder says of images; without gradients, float32 in any precision.

        Args:
            images: uint8 (b, s, s, 3), RGB, of the model's input size.
        """
        side = self.backbone.image_size
        if images.ndim != 4 or images.shape[1:] != (side, side, 3):
            raise ValueError(f"images of shape {tuple(images.shape)}, not (b, {side}, {side}, 3)")
        pixels = images.permute(0, 3, 1, 2).float()
        pixels = (pixels - self.sam.pixel_mean) / self.sam.pixel_std
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            embedding, early = self._tap.run(self.sam.image_encoder, pixels)
        if self.backbone.vit is None:
            early = early.permute(0, 2, 3, 1)
        return Features(embedding.float(), early.float())

    def embed(self, prompts: Prompts) -> list[PromptGroup]:
        """The prompts as `hq_logits` takes them, too.

        SAM's prompt encoder waits for the device where points are; embedding before `encode` is
        queued costs nothing, embedding after it leaves the device idle.
        """
        return embed_prompts(self.sam.prompt_encoder, prompts)

    def hq_logits(self, features: Features, prompts: Prompts | list[PromptGroup]) -> Tensor:
        """float32 (n, 1, m, m): the HQ token's logits, through which its parameters learn.

        SAM's own masks are not computed.

        Args:
            features: of n images, or of one for all prompts.
            prompts: n, of any mixture of kinds, as they are or embedded.
        """
        with _in_float32(features):
            groups = self.embed(prompts) if isinstance(prompts, Prompts) else prompts
            decoded = self.hq(self.sam.mask_decoder, features, self._image_pe(), groups)
        return cast(Tensor, decoded.hq)

    @torch.no_grad()
    def sam_logits(
        self, features: Features, prompts: Prompts, *, multimask: bool = False
    ) -> tuple[Tensor, Tensor]:
        """SAM's own masks, as SAM without any HQ token gives them.

        Args:
            features: of n images, or of one for all prompts.
            prompts: n, of any mixture of kinds.
            multimask: three masks to choose from instead of one.

        Returns:
            Logits, float32 (n, 1 or 3, m, m), and the IoU that SAM expects, float32 (n, 1 or 3).
        """
        with _in_float32(features):
            groups = embed_prompts(self.sam.prompt_encoder, prompts)
            masks, iou = decode_sam(self.sam.mask_decoder, features, self._image_pe(), groups)
        chosen = slice(1, None) if multimask else slice(0, 1)
        return masks[:, chosen], iou[:, chosen]

    @torch.no_grad()
    def predict(
        self,
        features: Features,
        prompts: Prompts,
        *,
        multimask: bool = False,
        hq_only: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """The mask that HQ-SAM gives: SAM's and the HQ token's added up.

        Args:
            features: of n images, or of one for all prompts.
            prompts: n, of any mixture of kinds.
            multimask: take the best of SAM's three masks instead of its single one.
            hq_only: leave SAM's mask out.

        Returns:
            Logits, float32 (n, 1, m, m), and the IoU that SAM expects of its mask, float32 (n, 1).
        """
        with _in_float32(features):
            groups = embed_prompts(self.sam.prompt_encoder, prompts)
            decoded = self.hq(
                self.sam.mask_decoder, features, self._image_pe(), groups, with_sam=True
            )
        masks, iou = decoded.sam, decoded.iou
        if multimask:
            best = 1 + iou[:, 1:].argmax(dim=1, keepdim=True)
        else:
            best = torch.zeros_like(iou[:, :1], dtype=torch.int64)
        iou = iou.gather(1, best)
        if hq_only:
            return decoded.hq, iou
        return masks.take_along_dim(best[:, :, None, None], dim=1) + decoded.hq, iou

    def _image_pe(self) -> Tensor:
        with torch.no_grad():
            places: Tensor = self.sam.prompt_encoder.get_dense_pe()
        return places


def _in_float32(features: Features) -> torch.autocast:
    """Switches off an autocast of the caller: what is trained runs in float32."""
    return torch.autocast(features.embedding.device.type, enabled=False)


def build_hq_sam(
    backbone: Backbone, *, seed: int, precision: Precision = "fp32", fused: bool = True
) -> HqSam:
    """A model with random weights, all of them fixed by the seed; checkpoints are loaded into it.

    Args:
        backbone: which.
        seed: of the weights; the global generator is left as it was.
        precision: of the frozen encoder.
        fused: compute attention with fused kernels where the encoder is a plain transformer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sam = _build_sam(backbone)
        hq = HqDecoder(backbone.early_dim)
    if fused and backbone.vit is not None:
        from training.model.fused_attention import fuse_attention

        fuse_attention(sam.image_encoder)
    return HqSam(backbone, sam, hq, precision=precision)


def _build_sam(backbone: Backbone) -> Sam:
    side = backbone.embedding_size
    return Sam(
        image_encoder=build_image_encoder(backbone),
        prompt_encoder=PromptEncoder(
            embed_dim=PROMPT_DIM,
            image_embedding_size=(side, side),
            input_image_size=(backbone.image_size, backbone.image_size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=PROMPT_DIM,
            transformer=TwoWayTransformer(
                depth=2,
                embedding_dim=PROMPT_DIM,
                mlp_dim=backbone.decoder_mlp_dim,
                num_heads=8,
            ),
        ),
        pixel_mean=_PIXEL_MEAN,
        pixel_std=_PIXEL_STD,
    )
