"""Other ways to find copies of a picture, for `benchmarks.overlap` to stand beside.

Each peer makes a code of a picture and says which codes match, with the threshold that its makers
give, or another one where the name says so. A peer that is not installed, or whose weights are not
here, is told by name; nothing is fetched.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pdqhash
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

PDQ_BITS = 31
"""Of 256: what PDQ's makers recommend."""

DEFAULT_BITS = 10
"""Of 64: `max_distance_threshold` of imagededup where nothing else is said."""

STRICT_BITS = 8
"""Of 64: a common choice for pHash, for it pairs fewer pictures that are not the same."""

CNN_SIMILARITY = 0.9
"""`min_similarity_threshold` of imagededup where nothing else is said."""

_WEIGHTS = "mobilenet_v3_small-*.pth"


@dataclass(frozen=True)
class Peer:
    """One way to find copies.

    Attributes:
        name: as the table calls it.
        told: what it is and where it draws the line, in words.
        family: peers of one family have the same codes, which are made once.
        encode: the code of a picture, uint8 (h, w, 3) RGB.
        matches: bool (n,), which of n codes one below the other match a code.
    """

    name: str
    told: str
    family: str
    encode: Callable[[Pixels], NDArray[Any]]
    matches: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]]


def within(bits: int) -> Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]]:
    """Matches codes, uint8 (k,), that differ in so many bits at most."""

    def matches(code: NDArray[Any], table: NDArray[Any]) -> NDArray[np.bool_]:
        distance = np.unpackbits(table ^ code, axis=1).sum(axis=1)
        return np.asarray(distance <= bits)

    return matches


def pdq(pixels: Pixels) -> NDArray[np.uint8]:
    """PDQ of the picture as it is, uint8 (32,)."""
    return np.packbits(pdqhash.compute(np.ascontiguousarray(pixels))[0])


def peers() -> tuple[list[Peer], list[str]]:
    """The peers that can be run here, and a sentence for each that cannot."""
    told = f"PDQ (pdqhash) of the whole picture, at most {PDQ_BITS} of 256 bits"
    found, absent = [Peer("PDQ", told, "pdq", pdq, within(PDQ_BITS))], []
    if importlib.util.find_spec("imagededup") is None:
        absent.append(
            "imagededup's hashes and CNN: not run: not installed (pip install '.[bench]')"
        )
        return found, absent
    try:
        methods = importlib.import_module("imagededup.methods")
    except ImportError as error:  # without torch it cannot be imported at all
        absent.append(f"imagededup: not run: {error}")
        return found, absent
    for name, bits in (
        ("pHash<=8", STRICT_BITS),
        ("pHash", DEFAULT_BITS),
        ("dHash", DEFAULT_BITS),
        ("wHash", DEFAULT_BITS),
        ("aHash", DEFAULT_BITS),
    ):
        cls = name.partition("<")[0]
        cls = cls[0].upper() + cls[1:]
        is_default = " (its default)" if bits == DEFAULT_BITS else ""
        told = f"imagededup's {cls}, at most {bits} of 64 bits{is_default}"
        found.append(Peer(name, told, cls, _hash(methods, cls), within(bits)))
    weights = _weights()
    if weights is None:
        absent.append("imagededup's CNN: not run: its weights are not here")
    else:
        told = f"imagededup's CNN (MobileNet v3), cosine of {CNN_SIMILARITY} at least (its default)"
        found.append(Peer("CNN", told, "cnn", _cnn(methods), _cosine))
    return found, absent


def _hash(methods: Any, cls: str) -> Callable[[Pixels], NDArray[np.uint8]]:
    method = getattr(methods, cls)(verbose=False)

    def encode(pixels: Pixels) -> NDArray[np.uint8]:
        # Hexadecimal digits; the package pads what is shorter on the left.
        text = method.encode_image(image_array=pixels).zfill(16)
        return np.frombuffer(bytes.fromhex(text), np.uint8)

    return encode


def _weights() -> Path | None:
    """The file of weights, if torch has it in its cache."""
    try:
        hub = importlib.import_module("torch.hub")
    except ImportError:
        return None
    return next(Path(hub.get_dir(), "checkpoints").glob(_WEIGHTS), None)


def _cnn(methods: Any) -> Callable[[Pixels], NDArray[np.float32]]:
    importlib.import_module("torch").set_num_threads(1)
    logging.getLogger("imagededup").setLevel(logging.WARNING)
    model = methods.CNN(verbose=False)

    def encode(pixels: Pixels) -> NDArray[np.float32]:
        code = np.asarray(model.encode_image(image_array=pixels), np.float32).ravel()
        return np.asarray(code / max(float(np.linalg.norm(code)), 1e-12), np.float32)

    return encode


def _cosine(code: NDArray[Any], table: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(table @ code >= CNN_SIMILARITY)
