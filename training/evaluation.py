"""Evaluates a model on shards: SAM's own masks and the HQ token's, from the same features.

The protocol is HQ-SAM's for fine masks: each image is stretched to the model's square input, the
prompt is the tight box of the stretched truth, and the logits are brought to the truth's own size
in one bilinear step. Figures are means over images, so batch size, workers and ranks leave no
trace in them but the rounding of the model itself.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from hqdata.errors import DatasetError
from hqdata.progress import Reporter, Silent
from hqdata.shards.dataset import Dataset
from training.data.batch import BadSample
from training.eval_samples import EvalBatch, EvalReader, EvalSample, PromptChoice, make_eval_loader
from training.feature_cache import DEFAULT_BYTES, FeatureCache
from training.metrics import boundary, boundary_width, iou
from training.model.encoder import Features
from training.model.hq_sam import HqSam
from training.scores import EvaluationResult, ImageScore, collect

Gather = Callable[[list[Any]], list[list[Any]]]
"""Takes a rank's list; gives those of all ranks, on every rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """How to evaluate.

    Attributes:
        batch_size: images that a rank computes at once.
        num_workers: processes that decode, a rank; 0 decodes in this one.
        num_threads: threads that measure masks, beside the model.
        prompt: what images are prompted with.
        feature_cache: folder where image features are kept for the next time, or None.
        feature_cache_bytes: how much that folder may hold.
    """

    batch_size: int = 4
    num_workers: int = 2
    num_threads: int = field(default_factory=lambda: max(1, min(8, (os.cpu_count() or 2) // 2)))
    prompt: PromptChoice = field(default_factory=PromptChoice)
    feature_cache: Path | None = None
    feature_cache_bytes: int = DEFAULT_BYTES


def evaluate(
    model: HqSam,
    dataset: Dataset,
    *,
    options: EvaluationOptions,
    device: torch.device,
    rows: Sequence[int] | None = None,
    rank: int = 0,
    world_size: int = 1,
    gather: Gather | None = None,
    reporter: Reporter | None = None,
) -> EvaluationResult:
    """Evaluates a model on a data set; every rank gets the whole result.

    An image whose truth has no object cannot be prompted: it is listed, and no mean counts it.

    Args:
        model: on `device`.
        dataset: shards of evaluation sets; each "source/split" is a set.
        options: how.
        device: where to compute.
        rows: only these rows of the data set.
        rank, world_size: which of how many processes; each takes every world_size-th image.
        gather: exchanges lists between them; needed where there are several.
        reporter: is told how many of its images a rank has done.

    Raises:
        DatasetError: an image cannot be read (on all ranks alike), or there is none with an object.
        UserError: the cache of features does not fit.
    """
    if world_size > 1 and gather is None:
        raise ValueError("several ranks need a way to gather their results")
    everything = range(len(dataset)) if rows is None else rows
    reporter = reporter or Silent()
    own = [int(row) for row in everything[rank::world_size]]
    found: list[ImageScore | BadSample] = []
    reporter.start("evaluating", len(own), "images")
    for score in _scores(model, dataset, own, len(everything), options, device):
        found.append(score)
        reporter.update(len(found))
        if isinstance(score, BadSample):
            break
    reporter.finish()
    gathered = [found] if gather is None else gather(found)
    scores: list[ImageScore] = []
    for one in (one for part in gathered for one in part):
        if isinstance(one, BadSample):
            # Raised only here, so that no rank waits for one that has given up.
            raise DatasetError(
                f"sample {one.key!r} cannot be read: {one.reason}",
                where=dataset.root / one.shard,
                do=f"see what else is damaged: hqdata check {dataset.root}",
            )
        scores.append(one)
    result = collect(scores)
    if not result.sets:
        raise DatasetError("no image has an object to evaluate on", where=dataset.root)
    return result


def _scores(
    model: HqSam,
    dataset: Dataset,
    rows: list[int],
    num_images: int,
    options: EvaluationOptions,
    device: torch.device,
) -> Iterator[ImageScore | BadSample]:
    """Scores of rows in their order, measured by threads while the model goes on."""
    table = dataset.samples.select(["key", "source", "split", "image_sha256"]).to_pydict()
    cache = None
    if options.feature_cache is not None:
        cache = FeatureCache.open(
            options.feature_cache, model, num_images=num_images, limit=options.feature_cache_bytes
        )
    backbone = model.backbone
    loader = make_eval_loader(
        EvalReader(dataset, rows, backbone.image_size, options.prompt),
        batch_size=options.batch_size,
        num_workers=min(options.num_workers, max(1, len(rows))),
        mask_side=backbone.mask_size,
    )
    waiting: deque[Future[ImageScore]] = deque()
    with ThreadPoolExecutor(options.num_threads) as pool:
        for batch in loader:
            digests = [table["image_sha256"][sample.row] for sample in batch.samples]
            logits = _logits(model, batch, digests, cache, device)
            for sample, sam, hq in zip(batch.samples, *logits, strict=True):
                name = f"{table['source'][sample.row]}/{table['split'][sample.row]}"
                key = table["key"][sample.row]
                waiting.append(pool.submit(score_image, sample, key, name, sam, hq))
            # Masks of many megapixels wait here: no more of them than keep the threads busy.
            while len(waiting) > 2 * options.num_threads:
                yield waiting.popleft().result()
            yield from batch.bad
        while waiting:
            yield waiting.popleft().result()


@torch.no_grad()
def _logits(
    model: HqSam,
    batch: EvalBatch,
    digests: list[str],
    cache: FeatureCache | None,
    device: torch.device,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits of SAM's own masks and of the HQ token's, float32 (b, m, m) each."""
    if not batch.samples:
        nothing = np.zeros((0, 1, 1), np.float32)
        return nothing, nothing
    features = _features(model, batch, digests, cache, device)
    prompts = batch.prompts.to(device)
    sam, _ = model.sam_logits(features, prompts)
    hq = model.hq_logits(features, prompts)
    both = torch.stack((sam[:, 0], hq[:, 0])).float().cpu().numpy()
    return both[0], both[1]


def _features(
    model: HqSam,
    batch: EvalBatch,
    digests: list[str],
    cache: FeatureCache | None,
    device: torch.device,
) -> Features:
    if cache is None:
        return model.encode(batch.images.to(device))
    kept = [cache.get(digest) for digest in digests]
    missing = [index for index, features in enumerate(kept) if features is None]
    if missing:
        encoded = model.encode(batch.images[missing].to(device))
        for place, index in enumerate(missing):
            kept[index] = encoded[place : place + 1]
            cache.put(digests[index], encoded[place : place + 1])
    parts = [features.to(device) for features in kept if features is not None]
    return Features(
        torch.cat([part.embedding for part in parts]), torch.cat([part.early for part in parts])
    )


def score_image(
    sample: EvalSample,
    key: str,
    set_name: str,
    sam: NDArray[np.float32],
    hq: NDArray[np.float32],
) -> ImageScore:
    """Measures the two masks of an image, given as logits, float32 (m, m), at the truth's size."""
    if not sample.has_object:
        return ImageScore(key, set_name, False, 0.0, 0.0, 0.0, 0.0)
    truth = sample.truth_mask()
    width = boundary_width(*sample.size)
    edge = boundary(truth, width)
    figures = []
    for logits in (sam, hq):
        mask = mask_of(logits, sample.size)
        figures += [iou(mask, truth), iou(boundary(mask, width), edge)]
    return ImageScore(key, set_name, True, *figures)


def mask_of(logits: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.bool_]:
    """bool (height, width): logits, float32 (m, m), brought to that size bilinearly, above 0.

    Positions are those of `torch.nn.functional.interpolate(..., align_corners=False)`.
    """
    height, width = size
    return np.greater(cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR), 0)
