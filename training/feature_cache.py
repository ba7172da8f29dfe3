"""Image features kept on disk, so that an evaluation of the same images need not encode them again.

The encoder is frozen: what it says of an image is the same after every epoch. Features are kept in
float32 as they are computed, so results with and without them are the same; that is 20 MiB an image
for ViT-L, 16 for ViT-B and 24 for ViT-H.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from hqdata.errors import UserError
from hqdata.files import no_room, write_whole
from training.model.encoder import Features
from training.model.hq_sam import HqSam

VERSION = 1
DEFAULT_BYTES = 64 << 30


def encoder_digest(model: HqSam) -> str:
    """SHA-256 of all that decides what the encoder says: its weights, precision and input side."""
    digest = hashlib.sha256(
        f"{VERSION}/{model.backbone.name}/{model.backbone.image_size}/{model.precision}".encode()
    )
    for name, value in sorted(model.sam.image_encoder.state_dict().items()):
        digest.update(f"{name}/{tuple(value.shape)}/{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """Features of one encoder, a file an image: `<folder>/<encoder>/<sha256 of the image>`."""

    folder: Path

    @classmethod
    def open(
        cls, root: Path, model: HqSam, *, num_images: int, limit: int = DEFAULT_BYTES
    ) -> FeatureCache:
        """The cache of a model's encoder.

        Args:
            root: where the features of all encoders lie.
            model: whose encoder.
            num_images: how many images are to be kept.
            limit: how many bytes all of `root` may take.

        Raises:
            UserError: that many images need more than the limit or than is free on the disk, or
                the folder cannot be made.
        """
        folder = root / encoder_digest(model)[:32]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make the folder for image features: {error.strerror}", where=folder
            ) from error
        present = [path.stat().st_size for path in root.glob("*/*.safetensors")]
        own = sum(1 for _ in folder.glob("*.safetensors"))
        missing = max(0, num_images - own) * bytes_per_image(model)
        free = shutil.disk_usage(folder).free
        if sum(present) + missing > limit:
            raise UserError(
                f"the image features need {_gib(sum(present) + missing)}, more than the limit",
                where=root,
                expected=f"at most {_gib(limit)}",
                do="raise the limit, remove what older models left there, or go without the cache",
            )
        if missing > free:
            raise UserError(
                f"the image features need {_gib(missing)} more, and {_gib(free)} are free",
                where=root,
                do="choose another disk, or go without the cache",
            )
        return cls(folder)

    def get(self, image_sha256: str) -> Features | None:
        """Features of an image, batch of one; None where they are missing or damaged."""
        try:
            found = load(self._path(image_sha256).read_bytes())
            return Features(found["embedding"], found["early"])
        except (FileNotFoundError, SafetensorError, KeyError):
            return None

    def put(self, image_sha256: str, features: Features) -> None:
        """Keeps the features of an image, batch of one; whole or not at all.

        Raises:
            HqdataError: the disk is full, or cannot be written to.
        """
        values = {
            "embedding": features.embedding.cpu().contiguous(),
            "early": features.early.cpu().contiguous(),
        }
        path = self._path(image_sha256)
        try:
            write_whole(path, save(values))
        except OSError as error:
            raise no_room(error, path) or UserError(
                f"cannot write image features: {error.strerror}", where=path
            ) from error

    def _path(self, image_sha256: str) -> Path:
        return self.folder / f"{image_sha256}.safetensors"


def bytes_per_image(model: HqSam) -> int:
    """Bytes that the features of an image take."""
    cells = model.backbone.embedding_size**2
    return 4 * cells * (256 + model.backbone.early_dim) + 256


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"
