"""The frozen encoder: what it gives, and that its early feature is taken without a trace."""

from __future__ import annotations

import copy
import gc
import threading
import weakref

import pytest
import torch
from torch import Tensor

from support.models import enliven, some_images
from training.model.backbones import find_backbone
from training.model.encoder import EarlyTap, Features
from training.model.hq_sam import HqSam, build_hq_sam

MICRO = find_backbone("vit_micro")


@pytest.fixture(scope="module")
def model() -> HqSam:
    model = build_hq_sam(MICRO, seed=0)
    enliven(model, seed=1)
    return model


@pytest.fixture(scope="module")
def images() -> Tensor:
    return some_images(MICRO, 3)


def test_features_are_float32_and_without_gradients(model: HqSam, images: Tensor):
    features = model.encode(images)
    assert features.embedding.shape == (3, 256, 16, 16)
    assert features.early.shape == (3, 16, 16, 128)
    for value in (features.embedding, features.early):
        assert value.dtype == torch.float32
        assert not value.requires_grad
        assert not value.is_inference()  # so that what is trained may save it for its gradient


def test_an_image_has_the_same_features_alone_and_among_others(model: HqSam, images: Tensor):
    together = model.encode(images)
    for index in range(len(images)):
        alone = model.encode(images[index : index + 1])
        torch.testing.assert_close(alone.embedding[0], together.embedding[index], atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.early[0], together.early[index], atol=1e-4, rtol=0)


def test_the_early_feature_is_that_of_the_first_block_with_global_attention(
    model: HqSam, images: Tensor
):
    encoder = model.sam.image_encoder
    pixels = (images.permute(0, 3, 1, 2) - model.sam.pixel_mean) / model.sam.pixel_std
    with torch.no_grad():
        tokens = encoder.patch_embed(pixels) + encoder.pos_embed
        for block in encoder.blocks[:3]:
            tokens = block(tokens)
    torch.testing.assert_close(model.encode(images).early, tokens, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 3, 256, 256), (1, 256, 128, 3), (256, 256, 3)])
def test_images_of_another_shape_are_refused(model: HqSam, shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="not \\(b, 256, 256, 3\\)"):
        model.encode(torch.zeros(shape, dtype=torch.uint8))


def test_bfloat16_is_near_and_handed_on_as_float32(model: HqSam, images: Tensor):
    half = build_hq_sam(MICRO, seed=0, precision="bf16")
    enliven(half, seed=1)
    exact, rounded = model.encode(images), half.encode(images)
    assert rounded.embedding.dtype == rounded.early.dtype == torch.float32
    for one, other in ((exact.embedding, rounded.embedding), (exact.early, rounded.early)):
        assert 0 < (one - other).abs().mean() < 0.03 * one.std()


def test_nothing_of_a_picture_is_kept(model: HqSam, images: Tensor):
    features = model.encode(images)
    kept = weakref.ref(features.early)
    model.sam.image_encoder(torch.zeros(1, 3, 256, 256))  # by somebody who wants no early feature
    del features
    gc.collect()
    assert kept() is None
    assert len(model.sam.image_encoder.blocks[2]._forward_hooks) == 1


def test_a_call_that_fails_leaves_nothing_behind(images: Tensor):
    model = build_hq_sam(MICRO, seed=0)
    broken = model.sam.image_encoder.blocks[-1].register_forward_pre_hook(fail)
    with pytest.raises(ArithmeticError):
        model.encode(images)
    broken.remove()
    assert model._tap._wanted == {}
    assert len(model.encode(images)) == 3


def fail(*_: object) -> None:
    raise ArithmeticError


def test_threads_do_not_get_one_anothers_features(model: HqSam, images: Tensor):
    alone = [model.encode(images[i : i + 1]).early for i in range(3)]
    found: dict[int, list[Tensor]] = {}
    barrier = threading.Barrier(3)

    def work(index: int) -> None:
        barrier.wait()
        found[index] = [model.encode(images[index : index + 1]).early for _ in range(3)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(3):
        for early in found[index]:
            torch.testing.assert_close(early, alone[index], atol=1e-5, rtol=0)


def test_a_copy_of_a_model_has_a_tap_of_its_own(model: HqSam, images: Tensor):
    copied = copy.deepcopy(model)
    torch.testing.assert_close(copied.encode(images).early, model.encode(images).early)
    assert copied._tap is not model._tap


def test_a_compiled_encoder_gives_the_same(model: HqSam, images: Tensor):
    compiled = copy.deepcopy(model)
    compiled.sam.image_encoder.compile(backend="eager")
    for _ in range(2):
        features, wanted = compiled.encode(images), model.encode(images)
        torch.testing.assert_close(features.early, wanted.early, atol=1e-5, rtol=0)
        torch.testing.assert_close(features.embedding, wanted.embedding, atol=1e-4, rtol=0)


def test_a_tap_on_a_module_that_does_not_run_is_an_error():
    tap = EarlyTap(torch.nn.Identity())
    with pytest.raises(RuntimeError, match="not part"):
        tap.run(torch.nn.Identity(), torch.zeros(1))


def test_features_are_picked_by_image():
    features = Features(torch.randn(4, 256, 2, 2), torch.randn(4, 2, 2, 8))
    picked = features[[3, 1]]
    assert len(picked) == 2
    assert torch.equal(picked.embedding, features.embedding[[3, 1]])
    assert torch.equal(features[1:2].early, features.early[1:2])
    assert torch.equal(picked.to(torch.device("cpu")).early, picked.early)
