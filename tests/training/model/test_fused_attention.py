"""Fused blocks compute what SAM's own blocks compute."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_anything.modeling.image_encoder import Block
from torch import nn

from support.models import enliven, some_images
from training.model.backbones import find_backbone
from training.model.fused_attention import ALIGNMENT, FusedBlock
from training.model.hq_sam import build_hq_sam


def plain_block(side: int, window: int, width: int = 40, heads: int = 2, seed: int = 0) -> Block:
    block = Block(width, heads, use_rel_pos=True, window_size=window, input_size=(side, side))
    enliven(block, seed)
    with torch.no_grad():
        block.attn.qkv.weight.mul_(3)  # so that attention is not nearly uniform
    return block.eval()


@settings(max_examples=25, deadline=None)
@given(
    side=st.integers(1, 17),
    window=st.integers(0, 8),
    batch=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 5]),
)
def test_blocks_are_equal_on_any_grid(side: int, window: int, batch: int, heads: int):
    plain = plain_block(side, window, heads=heads)
    fused = FusedBlock(copy.deepcopy(plain), side).eval()
    tokens = torch.randn(batch, side, side, 40, generator=torch.Generator().manual_seed(side))
    with torch.no_grad():
        torch.testing.assert_close(fused(tokens), plain(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("side", "window"),
    [(64, 14), (64, 0)],  # windows of the real size reach beyond the picture; global attention
)
def test_blocks_are_equal_on_the_grid_of_sam(side: int, window: int):
    plain = plain_block(side, window, width=128)
    fused = FusedBlock(copy.deepcopy(plain), side).eval()
    tokens = torch.randn(1, side, side, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = plain(tokens)
        torch.testing.assert_close(fused(tokens), wanted, atol=1e-5, rtol=1e-5)
        nn.init.zeros_(fused.attn.rel_pos_h)
        assert (fused(tokens) - wanted).abs().max() > 0.01  # the relative positions mattered


def test_padding_tokens_take_part_as_keys():
    plain = plain_block(5, 4)
    fused = FusedBlock(copy.deepcopy(plain), 5).eval()
    tokens = torch.randn(1, 5, 5, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = fused(tokens)[0, 4, 4]  # its window holds nothing else of the picture
        plain.attn.qkv.bias[80:] += 1.0
        fused.attn.qkv.bias[80:] += 1.0
        assert (fused(tokens)[0, 4, 4] - before).abs().max() > 0.01
        torch.testing.assert_close(fused(tokens), plain(tokens), atol=1e-5, rtol=1e-5)


def test_vectors_have_a_length_that_fused_kernels_take():
    for name in ("vit_b", "vit_l", "vit_h", "vit_micro"):
        vit = find_backbone(name).vit
        for side in (vit.window_size, find_backbone(name).embedding_size):
            with torch.device("meta"):
                block = Block(vit.width, vit.num_heads, use_rel_pos=True, input_size=(side, side))
                attention = FusedBlock(block, side).attn
            length = vit.width // vit.num_heads + attention.one_hot.shape[1]
            assert length % ALIGNMENT == 0
            assert length <= 256


def test_parameters_keep_their_names_and_new_ones_take_effect():
    micro = find_backbone("vit_micro")
    plain = build_hq_sam(micro, seed=0, fused=False)
    fused = build_hq_sam(micro, seed=0)
    images = some_images(micro, 1)
    assert torch.equal(plain.encode(images).early, plain.encode(images).early)
    torch.testing.assert_close(
        fused.encode(images).embedding, plain.encode(images).embedding, atol=1e-4, rtol=0
    )
    enliven(plain, seed=3)
    assert fused.state_dict().keys() == plain.state_dict().keys()
    fused.load_state_dict(plain.state_dict())
    torch.testing.assert_close(
        fused.encode(images).embedding, plain.encode(images).embedding, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("window", [0, 4])
def test_bfloat16_is_no_further_off_than_that_of_the_plain_block(window: int):
    plain = plain_block(10, window)
    fused = FusedBlock(copy.deepcopy(plain), 10).eval()
    tokens = torch.randn(2, 10, 10, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = plain(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            errors = [(block(tokens) - exact).abs().mean().item() for block in (plain, fused)]
    assert 0 < errors[1] < 1.5 * errors[0]
