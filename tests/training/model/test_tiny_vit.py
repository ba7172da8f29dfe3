"""TinyViT under MobileSAM's names."""

from __future__ import annotations

import pytest
import torch

from support.models import reference_names
from training.model.backbones import find_backbone
from training.model.tiny_vit import MobileImageEncoder, mobile_sam_name

TINY = find_backbone("vit_tiny")


@pytest.fixture(scope="module")
def encoder() -> MobileImageEncoder:
    return MobileImageEncoder(TINY).eval()


@pytest.mark.parametrize(
    ("ours", "public"),
    [
        ("trunk.patch_embed.conv2.bn.bias", "patch_embed.seq.2.bn.bias"),
        ("trunk.stages.0.blocks.1.conv3.conv.weight", "layers.0.blocks.1.conv3.c.weight"),
        ("trunk.stages.2.downsample.conv1.conv.weight", "layers.1.downsample.conv1.c.weight"),
        ("trunk.stages.3.blocks.0.local_conv.bn.weight", "layers.3.blocks.0.local_conv.bn.weight"),
        ("neck.0.weight", "neck.0.weight"),
        ("head.weight", "head.weight"),
    ],
)
def test_names_are_those_of_mobile_sam(ours: str, public: str):
    assert mobile_sam_name(ours) == public


def test_all_names_and_shapes_are_those_of_the_public_encoder(encoder: MobileImageEncoder):
    start = "image_encoder."
    wanted = {
        name.removeprefix(start): shape
        for name, shape in reference_names(TINY).items()
        if name.startswith(start)
    }
    found = {mobile_sam_name(n): tuple(v.shape) for n, v in encoder.state_dict().items()}
    assert found == wanted
    assert len(found) == len(encoder.state_dict())  # no two names became one


def test_biases_of_attention_follow_the_parameters_after_a_picture_was_seen(
    encoder: MobileImageEncoder,
):
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    with torch.no_grad():
        before = encoder(pixels)
        changed = {
            n: v + 2 * torch.rand_like(v) if "attention_biases" in n else v
            for n, v in state.items()
        }
        encoder.load_state_dict(changed)
        assert (encoder(pixels) - before).abs().max() > 0.01
        encoder.load_state_dict(state)
        torch.testing.assert_close(encoder(pixels), before)


def test_the_last_stage_keeps_the_resolution(encoder: MobileImageEncoder):
    with torch.no_grad():
        embedding = encoder(torch.zeros(1, 3, 224, 224))
    assert embedding.shape == (1, 256, 14, 14)
