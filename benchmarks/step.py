"""One training step beside the public loop, on the same device in the same run.

The public loop is transcribed on top of `segment-anything-hq`: SAM in fp32 with its own masks
decoded and blown up to 1024 pixels, then the HQ decoder, both image by image. Ours encodes and
decodes the batch, and SAM's masks not at all.

    python -m benchmarks.step                                # vit_tiny and vit_b on the CPU
    python -m benchmarks.step --model vit_l --batch 4 --device cuda

Prints images a second of both and their ratio, what the encoder achieves in TFLOP/s, and its share
of the device's own rate for large matrix products, measured in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from segment_anything_hq import sam_model_registry
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from training.cli_common import pick_device
from training.loss import LossConfig, hq_loss
from training.model.backbones import find_backbone
from training.model.hq_sam import HqSam, Precision, build_hq_sam
from training.prompts import Kind, Prompts

TARGET_ON_GPU = 8.0


@dataclass(frozen=True, slots=True)
class Data:
    """A batch as the loader gives it."""

    images: Tensor
    masks: Tensor
    prompts: Prompts
    seeds: Tensor


def make_data(number: int, side: int, device: torch.device) -> Data:
    """Discs on noise; boxes, points and masks in turn."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (number, side, side, 3), generator=generator, dtype=torch.uint8)
    grid = torch.arange(side, dtype=torch.float32)
    distance = (grid[:, None] - side / 2).hypot(grid[None] - side / 2)
    masks = (distance < side / 3).to(torch.uint8)[None].repeat(number, 1, 1) * 255
    edges = [side / 2 - side / 3, side / 2 + side / 3]
    box = torch.tensor([edges[0], edges[0], edges[1], edges[1]])
    prompts = Prompts(
        tuple(Kind(index % 3) for index in range(number)),
        box.repeat(number, 1),
        torch.full((number, 10, 2), side / 2)
        + side / 8 * torch.randn((number, 10, 2), generator=generator),
        torch.ones((number, 10), dtype=torch.int32),
        masks[:, None, ::4, ::4].contiguous(),
    )
    seeds = torch.arange(number)
    return Data(images.to(device), masks.to(device), prompts.to(device), seeds.to(device))


def our_step(model: HqSam, optimizer: torch.optim.Optimizer, data: Data) -> None:
    """A step as `training.loop` makes it."""
    features = model.encode(data.images)
    logits = model.hq_logits(features, data.prompts)
    losses = hq_loss(logits, data.masks, data.seeds, LossConfig())
    losses.total.mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def public_step(sam: nn.Module, optimizer: torch.optim.Optimizer, data: Data) -> None:
    """A step as the public trainer makes it."""
    inputs = []
    for index, kind in enumerate(data.prompts.kinds):
        image = data.images[index].permute(2, 0, 1).contiguous().float()
        one: dict[str, object] = {"image": image, "original_size": tuple(image.shape[1:])}
        if kind == Kind.BOX:
            one["boxes"] = data.prompts.boxes[index : index + 1]
        elif kind == Kind.POINT:
            one["point_coords"] = data.prompts.points[index : index + 1]
            one["point_labels"] = data.prompts.labels[index : index + 1]
        else:
            one["mask_inputs"] = data.prompts.masks[index : index + 1].float()
        inputs.append(one)
    decoder, encoder = sam.mask_decoder, sam.prompt_encoder
    embedded = []
    with torch.no_grad():
        sam(inputs, multimask_output=False)
        # The released forward keeps its embeddings to itself: they are made once and not charged.
        embeddings, early = data_features(sam, inputs)
    for one in inputs:
        points = (one["point_coords"], one["point_labels"]) if "point_coords" in one else None
        with torch.no_grad():
            embedded.append(encoder(points, one.get("boxes"), one.get("mask_inputs")))
    masks = []
    for index, (sparse, dense) in enumerate(embedded):
        found, _ = decoder(
            image_embeddings=embeddings[index : index + 1],
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            hq_token_only=True,
            interm_embeddings=early[index : index + 1][None],
        )
        masks.append(found)
    losses = hq_loss(torch.cat(masks), data.masks, data.seeds, LossConfig())
    losses.total.mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


_KEPT: dict[int, tuple[Tensor, Tensor]] = {}


def data_features(sam: nn.Module, inputs: list[dict[str, object]]) -> tuple[Tensor, Tensor]:
    """Embedding and early feature of the inputs, encoded once a model and kept."""
    if id(sam) not in _KEPT:
        pixels = torch.stack([sam.preprocess(one["image"]) for one in inputs])
        embedding, early = sam.image_encoder(pixels)
        _KEPT[id(sam)] = (embedding, early[0])
    return _KEPT[id(sam)]


def seconds(run: Callable[[], object], repeat: int, device: torch.device) -> float:
    """Median time of a call, after one to warm up."""
    found = []
    for _ in range(repeat + 1):
        _wait(device)
        began = time.perf_counter()
        run()
        _wait(device)
        found.append(time.perf_counter() - began)
    return statistics.median(found[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of a large matrix product."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds(lambda: torch.mm(a, b), 5, device) / 1e12


def encoder_tflop(model: HqSam, data: Data) -> float:
    """TFLOP of encoding one image with SAM's own attention."""
    # Counted on plain attention: what fusing adds to keys and queries is no work of SAM's.
    plain = build_hq_sam(model.backbone, seed=0, fused=False).to(data.images.device)
    with FlopCounterMode(display=False) as counter:
        plain.encode(data.images[:1])
    return float(counter.get_total_flops()) / 1e12


@dataclass(frozen=True, slots=True)
class Ours:
    """What was measured of our step: seconds of it and of encoding alone, TFLOP of one encoding."""

    step: float
    encode: float
    tflop: float
    peak_gib: float | None


def measure_ours(
    name: str, data: Data, repeat: int, device: torch.device, precision: Precision
) -> Ours:
    """Our step; the model is gone when it is measured."""
    model = build_hq_sam(find_backbone(name), seed=0, precision=precision).to(device)
    adam = torch.optim.Adam(model.hq_parameters(), lr=1e-3)
    tflop = encoder_tflop(model, data)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    step = seconds(lambda: our_step(model, adam, data), repeat, device)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return Ours(step, seconds(lambda: model.encode(data.images), repeat, device), tflop, peak)


def measure_public(name: str, data: Data, repeat: int, device: torch.device) -> float:
    """Seconds of a step of the public loop."""
    _KEPT.clear()
    model = sam_model_registry[name](checkpoint=None).to(device)
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    return seconds(lambda: public_step(model, adam, data), repeat, device)


def measure(
    name: str, batch: int, repeat: int, device: torch.device, precision: Precision
) -> float:
    """Prints the figures of one model; returns the ratio."""
    data = make_data(batch, find_backbone(name).image_size, device)
    ours = measure_ours(name, data, repeat, device, precision)
    public = measure_public(name, data, repeat, device)
    ceiling = matmul_rate(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    rate = ours.tflop * batch / ours.encode
    print(
        f"{name}, batch {batch}, {precision}: ours {batch / ours.step:.2f} images/s, public loop "
        f"(fp32) {batch / public:.2f}, ratio {public / ours.step:.2f}"
    )
    print(
        f"    encoder {ours.encode / ours.step:.0%} of a step, {ours.tflop:.2f} TFLOP an image, "
        f"{rate:.2f} TFLOP/s, {rate / ceiling:.0%} of {ceiling:.2f} TFLOP/s in matrix products"
        + (f"; {ours.peak_gib:.1f} GiB at most" if ours.peak_gib is not None else "")
    )
    return public / ours.step


def main() -> None:
    """Measures; exit status 1 where a GPU misses the target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", action="append", help="repeatable [vit_tiny, vit_b]")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    options = parser.parse_args()
    device = pick_device(options.device)
    precision: Precision = "bf16" if device.type == "cuda" else "fp32"
    if options.precision != "auto":
        precision = options.precision
    title = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{title}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    ratios = [
        measure(name, options.batch, options.repeat, device, precision)
        for name in options.model or ("vit_tiny", "vit_b")
    ]
    if device.type == "cuda" and min(ratios) < TARGET_ON_GPU:
        sys.exit(f"below {TARGET_ON_GPU:.0f} times the public loop")


if __name__ == "__main__":
    main()
