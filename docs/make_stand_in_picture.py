"""Draws `docs/stand-in.jpg`: two samples of every source of the stand-in, masks outlined.

hqdata mini --out data-mini/
hqdata build --recipe mini --data-root data-mini/ --out shards-mini/
python docs/make_stand_in_picture.py shards-mini/ docs/stand-in.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hqdata.codecs import decode_jpeg
from hqdata.shards.check import decode_mask
from hqdata.shards.dataset import Dataset
from hqdata.shards.names import Row

TILE = 200
GAP = 2
PER_SOURCE = 2
OUTLINE = (255, 60, 20)
SCALE = 2  # drawn this much larger, so that the outline is smooth

Pixels = NDArray[np.uint8]


def square(row: Row) -> tuple[slice, slice]:
    """Rows and columns of a square about the object, within the picture."""
    x0, y0, x1, y1 = row["box"]
    longest = min(row["width"], row["height"])
    side = min(longest, round(1.15 * max(x1 - x0 + 1, y1 - y0 + 1)))
    left = min(max(0, (x0 + x1 - side) // 2), row["width"] - side)
    top = min(max(0, (y0 + y1 - side) // 2), row["height"] - side)
    return slice(top, top + side), slice(left, left + side)


def tile(dataset: Dataset, row: Row) -> Pixels:
    """One sample, uint8 (TILE, TILE, 3) RGB."""
    window = square(row)
    image = decode_jpeg(dataset.read_member(row, "image"))[window]
    mask = decode_mask(dataset.read_member(row, "mask"))[window]
    size = (SCALE * TILE, SCALE * TILE)
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    inside = (cv2.resize(mask, size, interpolation=cv2.INTER_AREA) > 128).astype(np.uint8)
    outlines, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, OUTLINE, 2, cv2.LINE_AA)
    return np.asarray(cv2.resize(canvas, (TILE, TILE), interpolation=cv2.INTER_AREA), np.uint8)


def main() -> None:
    """Draws the sheet."""
    dataset = Dataset.open(sys.argv[1])
    rows = dataset.samples.to_pylist()
    sources = list(dataset.info.sources)
    sheet = np.full(
        (PER_SOURCE * (TILE + GAP) - GAP, len(sources) * (TILE + GAP) - GAP, 3), 255, np.uint8
    )
    for column, source in enumerate(sources):
        own = sorted((r for r in rows if r["source"] == source), key=lambda r: str(r["key"]))
        for line in range(PER_SOURCE):
            row = own[(2 * line + 1) * len(own) // (2 * PER_SOURCE)]
            y, x = line * (TILE + GAP), column * (TILE + GAP)
            sheet[y : y + TILE, x : x + TILE] = tile(dataset, row)
    out = Path(sys.argv[2])
    cv2.imwrite(str(out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(f"{out}: {sheet.shape[1]}x{sheet.shape[0]}, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
