"""One batch of mixed prompts gives what each sample gives alone, and trains the HQ token only."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.models import enliven, one_prompt, some_images, some_prompts
from training.model.backbones import find_backbone
from training.model.encoder import Features
from training.model.hq_sam import HqSam, build_hq_sam
from training.model.prompt_groups import embed_prompts
from training.prompts import Kind

MICRO = replace(find_backbone("vit_micro"), image_size=128)
MIXED = (Kind.MASK, Kind.BOX, Kind.POINT, Kind.BOX, Kind.MASK)


def living_model() -> HqSam:
    model = build_hq_sam(MICRO, seed=0)
    enliven(model, seed=1)
    return model


@pytest.fixture(scope="module")
def model() -> HqSam:
    return living_model()


@pytest.fixture(scope="module")
def features(model: HqSam) -> Features:
    return model.encode(some_images(MICRO, len(MIXED)))


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(Kind), min_size=1, max_size=len(MIXED)))
def test_any_mixture_of_prompts_gives_what_each_gives_alone(kinds: list[Kind]):
    model, features = cached()
    prompts = some_prompts(MICRO, kinds)
    some = features[: len(kinds)]
    with torch.no_grad():
        together = model.hq_logits(some, prompts)
    predicted, iou = model.predict(some, prompts, multimask=True)
    sam, expected = model.sam_logits(some, prompts, multimask=True)
    for index in range(len(kinds)):
        alone, own = features[index : index + 1], one_prompt(prompts, index)
        row = slice(index, index + 1)
        with torch.no_grad():
            torch.testing.assert_close(model.hq_logits(alone, own), together[row], **NEAR)
        found = model.predict(alone, own, multimask=True)
        torch.testing.assert_close(found, (predicted[row], iou[row]), **NEAR)
        found = model.sam_logits(alone, own, multimask=True)
        torch.testing.assert_close(found, (sam[row], expected[row]), **NEAR)


NEAR = {"atol": 1e-4, "rtol": 1e-5}
_CACHE: list[tuple[HqSam, Features]] = []


def cached() -> tuple[HqSam, Features]:
    if not _CACHE:
        model = living_model()
        _CACHE.append((model, model.encode(some_images(MICRO, len(MIXED)))))
    return _CACHE[0]


def test_many_prompts_of_one_image_are_as_many_copies_of_it(model: HqSam, features: Features):
    prompts = some_prompts(MICRO, MIXED)
    copies = features[[2] * len(MIXED)]
    logits, iou = model.predict(features[2:3], prompts)
    wanted, expected = model.predict(copies, prompts)
    torch.testing.assert_close(logits, wanted, **NEAR)
    torch.testing.assert_close(iou, expected, **NEAR)


def test_numbers_of_images_and_prompts_must_go_together(model: HqSam, features: Features):
    with pytest.raises(ValueError, match="3 prompts for 2 images"):
        model.hq_logits(features[:2], some_prompts(MICRO, MIXED[:3]))
    with pytest.raises(ValueError, match="no prompts"):
        model.hq_logits(features[:1], some_prompts(MICRO, ()))


def test_a_prompt_is_embedded_by_what_it_is_alone(model: HqSam):
    groups = embed_prompts(model.sam.prompt_encoder, some_prompts(MICRO, MIXED))
    assert [group.indices for group in groups] == [(1, 3), (2,), (0, 4)]
    # Two corners; ten points and SAM's padding point; nothing but the mask itself.
    assert [group.sparse.shape[1] for group in groups] == [2, 11, 0]
    assert all(group.dense.shape[1:] == (256, 8, 8) for group in groups)
    box, point, _ = groups
    assert torch.equal(box.dense[0], point.dense[0])


def test_masks_are_fed_as_the_values_they_have(model: HqSam, features: Features):
    prompts = some_prompts(MICRO, (Kind.MASK,))
    as_float = one_prompt(prompts, 0)
    as_float = type(prompts)(
        prompts.kinds, prompts.boxes, prompts.points, prompts.labels, prompts.masks.float()
    )
    first = features[:1]
    logits, _ = model.predict(first, prompts)
    assert torch.equal(logits, model.predict(first, as_float)[0])
    smaller = type(prompts)(
        prompts.kinds, prompts.boxes, prompts.points, prompts.labels, prompts.masks.float() / 255
    )
    assert not torch.allclose(logits, model.predict(first, smaller)[0], atol=1e-3)


def test_only_hq_parameters_have_gradients_and_they_are_the_sum_over_samples(features: Features):
    model = living_model()
    prompts = some_prompts(MICRO, MIXED)
    model.hq_logits(features, prompts).square().sum().backward()
    together = {name: p.grad.clone() for name, p in model.hq.named_parameters()}
    assert all(p.grad is None and not p.requires_grad for p in model.sam.parameters())
    model.zero_grad()
    for index in range(len(MIXED)):
        alone = model.hq_logits(features[index : index + 1], one_prompt(prompts, index))
        alone.square().sum().backward()
    for name, parameter in model.hq.named_parameters():
        assert together[name].abs().max() > 0, name
        scale = together[name].abs().max().item()
        torch.testing.assert_close(parameter.grad, together[name], atol=1e-4 * scale, rtol=1e-3)


def test_the_token_learns_through_the_frozen_transformer(features: Features):
    model = living_model()
    prompts = some_prompts(MICRO, (Kind.BOX,))
    model.hq_logits(features[:1], prompts).sum().backward()
    gradient = model.hq.hf_token.weight.grad
    with torch.no_grad():
        step = 1e-2 * gradient / gradient.norm()
        values = []
        for sign in (1, -1):
            model.hq.hf_token.weight.add_(sign * step)
            values.append(model.hq_logits(features[:1], prompts).double().sum())
            model.hq.hf_token.weight.sub_(sign * step)
    slope = (values[0] - values[1]) / (2 * step.norm())
    assert slope.item() == pytest.approx(gradient.norm().item(), rel=0.02)


def test_the_trained_pass_does_not_compute_masks_of_sam(model: HqSam, features: Features):
    calls: Counter[str] = Counter()
    decoder = model.sam.mask_decoder
    parts = {"iou": decoder.iou_prediction_head, "masks": decoder.output_hypernetworks_mlps[0]}
    hooks = [
        part.register_forward_hook(lambda *_, name=name: calls.update([name]))
        for name, part in parts.items()
    ]
    prompts = some_prompts(MICRO, MIXED)
    model.hq_logits(features, prompts)
    assert not calls
    model.predict(features, prompts)
    assert calls == {"iou": 1, "masks": 1}  # once for all kinds of prompts together
    for hook in hooks:
        hook.remove()


def test_an_autocast_around_it_leaves_the_trained_part_in_float32(model: HqSam, features: Features):
    prompts = some_prompts(MICRO, MIXED)
    wanted = model.hq_logits(features, prompts)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.hq_logits(features, prompts)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


def test_training_mode_reaches_the_hq_decoder_only():
    model = build_hq_sam(MICRO, seed=0)
    model.train()
    assert model.hq.training
    assert not any(module.training for module in model.sam.modules())
    model.eval()
    assert not model.hq.training


def test_weights_follow_from_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    one, other, third = (build_hq_sam(MICRO, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["hq.hf_token.weight"], third["hq.hf_token.weight"])
    assert not torch.equal(one["sam.image_encoder.pos_embed"], third["sam.image_encoder.pos_embed"])


def test_names_of_trained_parameters_are_the_public_ones(model: HqSam):
    parts = {name.split(".")[0] for name in model.hq.state_dict()}
    assert parts == {
        "hf_token",
        "hf_mlp",
        "compress_vit_feat",
        "embedding_encoder",
        "embedding_maskfeature",
    }
    assert {id(p) for p in model.hq_parameters()} == {
        id(p) for p in model.parameters() if p.requires_grad
    }
