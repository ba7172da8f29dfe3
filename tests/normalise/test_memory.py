"""What a worker takes at most for a pair of 36 megapixels, in a process of its own.

An RGB picture of that size has 103 MiB. Bounds above 400 MiB are those of formats whose decoders
hold more than that themselves; `hqdata.pictures` tells which and why.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from support.builds import child_environment

SIDE = 6000
MEASURE = """
import sys
from pathlib import Path
import hqdata.build.work
from hqdata.normalise import Origin, Settings, normalise

image, mask = (Path(name).read_bytes() for name in sys.argv[1:])
record = normalise(image, mask, Origin("k", "own", "all", "x", "a", "b"), Settings()).record
assert (record.width, record.height) == (6000, 6000)
status = Path("/proc/self/status").read_text()
print(status.split("VmHWM:")[1].split()[0], record.image_changes, record.mask_changes, sep=";")
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc"),
]


def _rgb() -> np.ndarray:
    """Texture in one place, which is cheap to pack, but not everywhere flat."""
    rng = np.random.default_rng(0)
    pixels = np.full((SIDE, SIDE, 3), (90, 120, 200), np.uint8)
    pixels[:600, :1000] = cv2.blur(rng.integers(0, 256, (600, 1000, 3), np.uint8), (7, 7))
    return pixels


def _disc() -> np.ndarray:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    return cv2.blur(cv2.circle(canvas, (3000, 3000), 1500, 255, -1), (3, 3))


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _pillow(pixels: np.ndarray, kind: str, mode: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if mode is not None:
        image = image.convert(mode)
    if options.pop("turned", False):
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6  # type: ignore[index]
    image.save(buffer, kind, **options)
    return buffer.getvalue()


IMAGES: dict[str, tuple[int, Callable[[np.ndarray, np.ndarray], bytes]]] = {
    "jpeg": (250, lambda rgb, disc: _pillow(rgb, "JPEG")),
    "cmyk-jpeg": (400, lambda rgb, disc: _pillow(rgb, "JPEG", "CMYK")),
    "progressive-444-jpeg": (
        430,
        lambda rgb, disc: _pillow(rgb, "JPEG", progressive=True, subsampling=0),
    ),
    "rgba-png": (400, lambda rgb, disc: _png(np.dstack([rgb, disc]))),
    "16-bit-rgb-png": (520, lambda rgb, disc: _png(rgb.astype(np.uint16) * 257)),
    "turned-tiff": (
        400,
        lambda rgb, disc: _pillow(rgb, "TIFF", turned=True, compression="tiff_lzw"),
    ),
    "raw-tiff": (480, lambda rgb, disc: _pillow(rgb, "TIFF")),
    "lossy-webp": (400, lambda rgb, disc: _pillow(rgb, "WEBP", method=0, quality=50)),
    "lossless-webp": (
        400,
        lambda rgb, disc: _pillow(rgb, "WEBP", method=0, lossless=True, quality=0),
    ),
}
"""Name -> (bound in MiB, how to make it)."""

MASKS: dict[str, tuple[int, Callable[[np.ndarray], bytes]]] = {
    "gray": (250, _png),
    "16-bit": (400, lambda disc: _png(disc.astype(np.uint16) * 257)),
    "rgba": (400, lambda disc: _png(np.dstack([disc] * 4))),
    "turned-webp": (400, lambda disc: _pillow(disc, "WEBP", method=0, lossless=True, turned=True)),
}


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one file of 6000x6000 pixels for every entry of IMAGES and MASKS."""
    folder = tmp_path_factory.mktemp("large")
    rgb, disc = _rgb(), _disc()
    for name, (_, make) in IMAGES.items():
        (folder / f"image-{name}").write_bytes(make(rgb, disc))
    for name, (_, make_mask) in MASKS.items():
        (folder / f"mask-{name}").write_bytes(make_mask(disc))
    return folder


def _peak_mib(image: Path, mask: Path) -> tuple[float, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(image), str(mask)],
        capture_output=True,
        text=True,
        check=True,
        env=child_environment(),
    )
    peak, of_image, of_mask = done.stdout.strip().split(";")
    return int(peak) / 1024, of_image, of_mask


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_of_36_megapixels_fits(large: Path, name: str) -> None:
    peak, changes, _ = _peak_mib(large / f"image-{name}", large / "mask-gray")
    assert peak < IMAGES[name][0]
    assert ("exif-orientation-6" in changes) is ("turned" in name)


@pytest.mark.parametrize("name", [name for name in MASKS if name != "gray"])
def test_a_mask_of_36_megapixels_fits(large: Path, name: str) -> None:
    peak, _, changes = _peak_mib(large / "image-jpeg", large / f"mask-{name}")
    assert peak < MASKS[name][0]
    assert ("exif-orientation-6" in changes) is ("turned" in name)
