"""The encoders, and how large the HQ decoder for each is: Table 1 of the paper."""

from __future__ import annotations

import pytest

from hqdata.errors import UserError
from training.model.backbones import BACKBONES, find_backbone
from training.model.hq_decoder import HqDecoder


@pytest.mark.parametrize(
    ("name", "number", "mebibytes"),
    [
        ("vit_b", 1_071_104, 4.1),
        ("vit_l", 1_333_248, 5.1),
        ("vit_h", 1_595_392, 6.1),
        ("vit_tiny", 448_512, 1.7),
    ],
)
def test_trained_parameters_are_as_many_as_in_table_1(name: str, number: int, mebibytes: float):
    parameters = list(HqDecoder(find_backbone(name).early_dim).parameters())
    assert sum(p.numel() for p in parameters) == number
    assert round(sum(p.numel() * p.element_size() for p in parameters) / 2**20, 1) == mebibytes


@pytest.mark.parametrize("name", BACKBONES)
def test_masks_have_four_times_the_side_of_the_embedding(name: str):
    backbone = find_backbone(name)
    assert backbone.mask_size == 4 * backbone.embedding_size
    assert backbone.mask_size == (64 if name == "vit_micro" else 256)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown model 'vit-l' \(did you mean 'vit_l'\?\)"):
        find_backbone("vit-l")
