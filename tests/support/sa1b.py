"""SA-1B in small: archives and folders as upstream packs them, of pictures drawn here.

Real JPEGs, and json in the exact form of upstream's, whose masks are blobs with the run lengths
that blobs have.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Kind = Literal["tar", "gz", "folder"]
Order = Literal["adjacent", "shuffled"]

File = tuple[str, bytes]
Damage = Callable[[list[File], dict[str, Any]], list[File]]


def compressed(mask: NDArray[np.uint8]) -> str:
    """COCO's compressed run lengths of a mask (height, width), by the definition: one at a time."""
    flat = mask.T.reshape(-1) > 0
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = [0, *edges.tolist(), flat.size]
    runs = [end - begin for begin, end in pairwise(bounds)]
    if flat[0]:
        runs.insert(0, 0)
    return written(runs)


def written(runs: Iterable[int]) -> str:
    """Runs as COCO writes them."""
    runs = list(runs)
    text = []
    for place, run in enumerate(runs):
        number = run - runs[place - 2] if place > 2 else run
        while True:
            group, number = number & 31, number >> 5
            is_last = number == (-1 if group & 16 else 0)
            text.append(chr(48 + group + (0 if is_last else 32)))
            if is_last:
                break
    return "".join(text)


@cache
def _counts(width: int, height: int, number: int) -> tuple[str, int, tuple[float, ...]]:
    """Run lengths, area and box of the blob of a number; the same for all pictures of a size."""
    draw = random.Random(f"{width}:{height}:{number}")
    mask = np.zeros((height, width), np.uint8)
    scale = draw.choice((0.04, 0.08, 0.15, 0.3))
    centre = np.array([draw.uniform(0.1, 0.9) * width, draw.uniform(0.1, 0.9) * height])
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = np.array([draw.uniform(0.6, 1.0) for _ in angles]) * max(
        2.0, scale * min(width, height)
    )
    points = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
    cv2.fillPoly(mask, [points.round().astype(np.int32)], 255)
    x, y, w, h = cv2.boundingRect(mask)
    # Upstream's width and height are one less than the number of pixels.
    box = (float(x), float(y), float(w - 1), float(h - 1))
    return compressed(mask), int(np.count_nonzero(mask)), box


def make_notes(
    image_id: int, *, seed: int = 0, width: int = 96, height: int = 64, num_masks: int = 100
) -> dict[str, Any]:
    """The json of a picture, as upstream writes it."""
    draw = random.Random(f"{seed}:{image_id}")
    first = 100_000_000 + image_id * 1_000
    annotations = []
    for number in range(num_masks):
        counts, area, box = _counts(width, height, draw.randrange(200))
        annotations.append(
            {
                "bbox": list(box),
                "area": area,
                "segmentation": {"size": [height, width], "counts": counts},
                "predicted_iou": round(draw.uniform(0.88, 1.0), 6),
                "point_coords": [[box[0] + box[2] / 2, box[1] + box[3] / 2]],
                "crop_box": [0.0, 0.0, float(width), float(height)],
                "id": first + number,
                "stability_score": round(draw.uniform(0.95, 1.0), 6),
            }
        )
    image = {
        "image_id": image_id,
        "width": width,
        "height": height,
        "file_name": f"sa_{image_id}.jpg",
    }
    return {"image": image, "annotations": annotations}


@cache
def _base(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    draws = np.random.default_rng(seed)
    small = draws.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def make_picture(image_id: int, *, seed: int = 0, width: int = 96, height: int = 64) -> bytes:
    """A JPEG that no other picture of these tests is the same as."""
    pixels = _base((seed * 7 + image_id) % 13, width, height).copy()
    draw = random.Random(f"{seed}:{image_id}")
    for _ in range(6):
        x, y = draw.randrange(width), draw.randrange(height)
        radius = draw.randrange(2, max(3, min(width, height) // 3))
        colour = [draw.randrange(256) for _ in range(3)]
        cv2.circle(pixels, (x, y), radius, colour, -1)
    data: NDArray[np.uint8] = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return data.tobytes()


def _without(end: str) -> Damage:
    return lambda files, _: [file for file in files if not file[0].endswith(end)]


def _notes(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(files: list[File], notes: dict[str, Any]) -> list[File]:
        change(notes)
        return [(name, dump(notes) if name.endswith(".json") else data) for name, data in files]

    return damage


def _each(**values: Any) -> Damage:
    return _notes(lambda notes: [row.update(values) for row in notes["annotations"]])


def _with(end: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda files, _: [
        (name, change(data) if name.endswith(end) else data) for name, data in files
    ]


def _each_segmentation(**values: Any) -> Damage:
    return _notes(
        lambda notes: [row["segmentation"].update(values) for row in notes["annotations"]]
    )


DAMAGE: Mapping[str, Damage] = {
    "truncated": _with(".jpg", lambda data: data[: len(data) // 2]),
    "empty_image": _with(".jpg", lambda data: b""),
    "no_image": _without(".jpg"),
    "no_json": _without(".json"),
    "bad_json": _with(".json", lambda data: data[: len(data) // 2]),
    "empty_json": _with(".json", lambda data: b""),
    "bad_rle": _each_segmentation(counts="0PPPPPPPPPPPPPPPPPPPPPP"),
    "wrong_size": _each_segmentation(size=[1, 1]),
    "no_masks": _notes(lambda notes: notes["annotations"].clear()),
    "low_scores": _each(predicted_iou=0.1, stability_score=0.1),
    "other_id": _notes(lambda notes: notes["image"].update(image_id=1)),
    "wrong_types": _each(id="1", predicted_iou=None),
    "no_object": _notes(lambda notes: notes.update(image=[], annotations={})),
    "twice": lambda files, _: [*files, *files],
}
"""What can be wrong with a picture, by name. `truncated` alone shows only when it is decoded."""


def dump(notes: dict[str, Any]) -> bytes:
    """A json as upstream writes it."""
    return json.dumps(notes).encode()


def make_files(
    ids: Iterable[int],
    *,
    seed: int = 0,
    width: int = 96,
    height: int = 64,
    num_masks: int = 100,
    damage: Mapping[int, str] | None = None,
    order: Order = "adjacent",
) -> list[File]:
    """Names and bytes of the files of some pictures, in the order that they lie in an archive."""
    files: list[File] = []
    for image_id in ids:
        notes = make_notes(image_id, seed=seed, width=width, height=height, num_masks=num_masks)
        pair = [
            (f"sa_{image_id}.jpg", make_picture(image_id, seed=seed, width=width, height=height)),
            (f"sa_{image_id}.json", dump(notes)),
        ]
        if damage and image_id in damage:
            pair = DAMAGE[damage[image_id]](pair, notes)
        files += pair
    if order == "shuffled":
        random.Random(seed).shuffle(files)
    return files


def tar_of(files: Iterable[File], *, folder: str = "", format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of some files."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=format) as tar:
        for name, data in files:
            info = tarfile.TarInfo(f"{folder}{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def make_bundle(
    path: Path,
    ids: Iterable[int],
    *,
    seed: int = 0,
    width: int = 96,
    height: int = 64,
    num_masks: int = 100,
    kind: Kind = "tar",
    damage: Mapping[int, str] | None = None,
    order: Order = "adjacent",
) -> Path:
    """Makes an archive or a folder of SA-1B; returns `path`.

    Args:
        path: of the archive or folder, e.g. `root / "sa_000000.tar"`. Gzip may be in a `.tar`, too.
        ids: numbers of the pictures.
        seed: other seeds give other pictures and masks.
        width, height: of the pictures.
        num_masks: of each picture.
        kind: a tar, a tar with gzip around it, or a folder.
        damage: what is wrong with a picture, by its number; the names of `DAMAGE`.
        order: of the members: picture, json, picture, json; or all shuffled.
    """
    files = make_files(
        ids,
        seed=seed,
        width=width,
        height=height,
        num_masks=num_masks,
        damage=damage,
        order=order,
    )
    if kind == "folder":
        path.mkdir(parents=True)
        for name, data in files:
            (path / name).write_bytes(data)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    data = tar_of(files)
    path.write_bytes(data if kind == "tar" else gzip.compress(data, 1, mtime=0))
    return path
