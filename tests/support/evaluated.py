"""Small trees of sources and evaluation sets, and copies of the ones among the others."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from hqdata.overlap.edits import Pixels

_MASKS = (
    ("/im/", "/gt/"),
    ("/images/", "/masks/"),
    ("/images/", "/masks_max255/"),
    ("/images/", "/ground_truth_mask/"),
    ("/images_train/", "/masks_train/"),
    ("/images_test/", "/masks_test/"),
    ("-Image/", "-Mask/"),
    (".jpg", ".jpg"),
)
"""Where the mask of a picture lies."""


def mask_of(image: Path) -> Path:
    """The mask that belongs to a picture of a laid out tree."""
    candidates = (
        Path(str(image).replace(old, new)).with_suffix(".png")
        for old, new in _MASKS
        if old in str(image)
    )
    return next(path for path in candidates if path.is_file())


def small_tree(arranged: Path, root: Path, number: int, longer_side: int) -> Path:
    """The first `number` pictures of each set of a laid out tree, made smaller, and their masks."""
    kept: Counter[tuple[str, str]] = Counter()
    for image in sorted(arranged.rglob("*.jpg")):
        place = image.relative_to(arranged)
        parent = place.parts[0] if place.parts[0] == "fewshot_data" else place.parent.as_posix()
        group = parent, image.stem.rpartition("_")[2] if "thin_thing" in image.stem else ""
        if kept[group] == number:
            continue
        kept[group] += 1
        pixels = cv2.imread(str(image), cv2.IMREAD_COLOR)
        mask_path = mask_of(image)
        mask = cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None
        assert mask is not None
        factor = min(1.0, longer_side / max(pixels.shape))
        size = round(pixels.shape[1] * factor), round(pixels.shape[0] * factor)
        for path, picture, how in (
            (image, pixels, cv2.INTER_AREA),
            (mask_path, mask, cv2.INTER_NEAREST),
        ):
            target = root / path.relative_to(arranged)
            target.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(target), cv2.resize(picture, size, interpolation=how))
    for listed in arranged.glob("ThinObject5K/list/*.txt"):
        target = root / listed.relative_to(arranged)
        target.parent.mkdir(parents=True, exist_ok=True)
        there = {path.name for path in root.glob("ThinObject5K/masks/*.png")}
        target.write_text("".join(f"{n}\n" for n in listed.read_text().split() if n in there))
    return root


def pictures_of(folder: Path) -> list[Path]:
    """The pictures of a folder, sorted."""
    return sorted(folder.rglob("*.jpg"))


def read(path: Path) -> Pixels:
    """uint8 (h, w, 3), in cv2's order of colours."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert pixels is not None
    return np.asarray(pixels, np.uint8)


def plant(image: Path, copy: Pixels | Path, quality: int = 92) -> None:
    """Puts a copy in the place of a picture, and makes its mask as large."""
    mask_path = mask_of(image)
    mask = cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    if isinstance(copy, Path):
        shutil.copyfile(copy, image)
    else:
        assert cv2.imwrite(str(image), copy, [cv2.IMWRITE_JPEG_QUALITY, quality])
    height, width = read(image).shape[:2]
    resized = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    assert cv2.imwrite(str(mask_path), resized)
