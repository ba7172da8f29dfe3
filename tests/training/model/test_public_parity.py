"""With the same weights, features and masks are those of the public packages."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from segment_anything_hq import sam_model_registry
from torch import Tensor

from support.models import enliven, public_arguments, reference_for, some_images, some_prompts
from training.model.backbones import find_backbone
from training.model.checkpoints import save_merged
from training.model.encoder import Features
from training.model.hq_sam import HqSam, build_hq_sam
from training.prompts import Kind, Prompts

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
KINDS = (Kind.BOX, Kind.POINT, Kind.MASK)


@dataclass(frozen=True)
class Pair:
    """Ours and the public one, and what their encoders say of one image."""

    ours: HqSam
    public: Any
    features: Features
    public_features: Features
    prompts: Prompts


def pair_of(ours: HqSam, public: Any) -> Pair:
    images = some_images(ours.backbone, 1)
    mean, std = ours.sam.pixel_mean, ours.sam.pixel_std
    with torch.no_grad():
        embedding, early = public.image_encoder((images.permute(0, 3, 1, 2) - mean) / std)
    prompts = some_prompts(ours.backbone, KINDS)
    return Pair(ours, public, ours.encode(images), Features(embedding, early[0]), prompts)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("vit_b", None), id="vit_b"),
        pytest.param(("vit_tiny", None), id="vit_tiny"),
        pytest.param(("vit_l", 256), id="vit_l at 256 pixels"),
        pytest.param(("vit_h", 224), id="vit_h at 224 pixels"),
    ],
)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    name, side = request.param
    backbone = find_backbone(name)
    if side:  # the large ones with all their widths and blocks, on a picture that is soon computed
        backbone = replace(backbone, image_size=side)
    ours = build_hq_sam(backbone, seed=1)
    enliven(ours, seed=2)
    if backbone.vit is None:
        public = read_by_public_package(ours, tmp_path_factory.mktemp("merged") / "tiny.pth")
    else:
        public = reference_for(ours)
    yield pair_of(ours, public)
    gc.collect()


def read_by_public_package(ours: HqSam, path: Path) -> Any:
    save_merged(ours, path)
    # Its attention keeps biases that it looked up before it read the file; eval() renews them.
    return sam_model_registry[ours.backbone.name](checkpoint=str(path)).eval()


def far(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape
    return (one - other).abs().max().item()


def public_decode(pair: Pair, index: int, *, multimask: bool, hq_only: bool) -> tuple[Tensor, ...]:
    encoder, features = pair.public.prompt_encoder, pair.public_features
    with torch.no_grad():
        sparse, dense = encoder(**public_arguments(pair.prompts, index))
        return pair.public.mask_decoder(
            image_embeddings=features.embedding,
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            hq_token_only=hq_only,
            interm_embeddings=features.early[None],
        )


def test_features_are_those_of_the_public_encoder(pair: Pair):
    size, backbone = pair.ours.backbone.embedding_size, pair.ours.backbone
    assert pair.features.embedding.shape == (1, 256, size, size)
    assert pair.features.early.shape == (1, size, size, backbone.early_dim)
    assert pair.features.embedding.std() > 0.1
    assert far(pair.features.embedding, pair.public_features.embedding) < TOLERANCE
    assert far(pair.features.early, pair.public_features.early) < TOLERANCE


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("hq_only", [False, True])
def test_predicted_masks_are_those_of_the_public_package(
    pair: Pair, multimask: bool, hq_only: bool
):
    logits, iou = pair.ours.predict(
        pair.features, pair.prompts, multimask=multimask, hq_only=hq_only
    )
    assert logits.std() > 0.01
    for index in range(len(KINDS)):
        masks, scores = public_decode(pair, index, multimask=multimask, hq_only=hq_only)
        assert far(logits[index : index + 1], masks) < TOLERANCE
        assert far(iou[index : index + 1], scores) < TOLERANCE


def test_trained_logits_are_those_of_the_hq_token_alone(pair: Pair):
    with torch.no_grad():
        logits = pair.ours.hq_logits(pair.features, pair.prompts)
    for index in range(len(KINDS)):
        masks, _ = public_decode(pair, index, multimask=False, hq_only=True)
        assert far(logits[index : index + 1], masks) < TOLERANCE


@pytest.mark.parametrize("multimask", [False, True])
def test_sam_masks_are_those_of_the_package_of_sam(pair: Pair, multimask: bool):
    decoder = MaskDecoder(
        transformer_dim=256,
        transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
    ).eval()
    known = decoder.state_dict().keys()
    public = pair.public.mask_decoder.state_dict()
    decoder.load_state_dict({name: public[name] for name in known})
    logits, iou = pair.ours.sam_logits(pair.features, pair.prompts, multimask=multimask)
    encoder = pair.public.prompt_encoder
    for index in range(len(KINDS)):
        with torch.no_grad():
            sparse, dense = encoder(**public_arguments(pair.prompts, index))
            masks, scores = decoder(
                image_embeddings=pair.public_features.embedding,
                image_pe=encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask,
            )
        assert far(logits[index : index + 1], masks) < TOLERANCE
        assert far(iou[index : index + 1], scores) < TOLERANCE
