"""Which pictures the stand-in holds, what they are called and where they lie.

Folders and names are those of the official releases, so that whatever reads the real data sets
reads the stand-in too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from hqdata.catalogue.names import load_names
from hqdata.errors import UserError, nearest
from hqdata.mini.scenes import LOOKS, choose_family

GENERATOR = 1
"""Goes up whenever the same arguments would give other pictures than before."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Scale:
    """How large a stand-in is.

    ``name`` as given; ``fraction`` of the official counts, or None for the small demonstration,
    which has counts and picture sizes of its own.
    """

    name: str
    fraction: float | None

    @property
    def sizes(self) -> str:
        """Which mix of picture sizes it uses: "small" or "full"."""
        return "small" if self.fraction is None else "full"


def parse_scale(scale: str | float) -> Scale:
    """Read "small", "full" or a fraction above 0 and up to 1 (a number or its text)."""
    if scale == "small":
        return Scale("small", None)
    try:
        fraction = 1.0 if scale == "full" else float(scale)
    except ValueError:
        fraction = -1.0
    if not 0 < fraction <= 1:
        raise UserError(
            f"{scale!r} is not a scale",
            expected="small, full, or a number above 0 and up to 1, the part of the full counts",
            do="use small for a first look, 0.02 for about 900 training pictures",
        )
    return Scale("full" if fraction == 1 else repr(fraction), fraction)


@dataclass(frozen=True)
class Split:
    """One split of one set: its look and how many pictures it has at either end of the scale."""

    set: str
    split: str
    look: str
    full: int
    small: int

    def count(self, scale: Scale) -> int:
        """Return the number of pictures at a scale."""
        if scale.fraction is None:
            return self.small
        if self.set == "fss":
            return 10 * max(1, round(scale.fraction * self.full / 10))
        return max(1, round(scale.fraction * self.full))


SPLITS: tuple[Split, ...] = (
    Split("dis", "train", "dis", 3000, 24),
    Split("dis", "vd", "dis", 470, 6),
    Split("thinobject", "train", "thin", 4748, 24),
    Split("thinobject", "val", "thin", 500, 4),
    Split("thinobject", "test", "thin", 500, 6),
    Split("fss", "all", "fss", 10000, 40),
    Split("duts", "train", "duts", 10553, 32),
    Split("duts", "test", "duts", 5019, 16),
    Split("ecssd", "all", "ecssd", 1000, 16),
    Split("msra", "all", "msra", 10000, 24),
    Split("coift", "all", "coift", 280, 6),
    Split("hrsod", "all", "hrsod", 287, 6),
)
SETS: tuple[str, ...] = tuple(dict.fromkeys(split.set for split in SPLITS))


@dataclass(frozen=True)
class Picture:
    """One picture to make.

    ``image`` and ``mask`` are paths relative to the stand-in, with forward slashes; ``key`` seeds
    what is its own and ``kin`` what its class shares (None: nothing).
    """

    image: str
    mask: str
    look: str
    family: str
    width: int
    height: int
    key: str
    kin: str | None = None


def number(*parts: object) -> int:
    """Return a 64-bit number that depends on the text of the parts and on nothing else."""
    text = "|".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _oriented(rng: np.random.Generator, long: float, aspect: float, portrait: float) -> Size:
    short = long / aspect
    turned = rng.random() < portrait
    return (round(short), round(long)) if turned else (round(long), round(short))


def _dis_size(rng: np.random.Generator, sizes: str) -> Size:
    aspect = float(rng.choice([1.333, 1.333, 1.5, 1.5, 1.0, 1.25, 1.778]))
    if sizes == "small":
        return _oriented(rng, 1600, aspect, 0.3)
    long = float(np.exp(rng.uniform(np.log(1600), np.log(5000))))
    # Twelve megapixels keep the largest pictures within reach of a laptop's memory and patience.
    return _oriented(rng, min(long, (12e6 * aspect) ** 0.5), aspect, 0.3)


def _thin_size(rng: np.random.Generator, sizes: str) -> Size:
    long = 1000.0 if sizes == "small" else float(rng.uniform(760, 2000))
    return _oriented(rng, long, float(rng.uniform(1.0, 1.35)), 0.35)


def _hrsod_size(rng: np.random.Generator, sizes: str) -> Size:
    long = 1400.0 if sizes == "small" else float(rng.uniform(2000, 3000))
    return _oriented(rng, long, float(rng.choice([1.333, 1.5, 1.5])), 0.2)


def _small_size(rng: np.random.Generator, sizes: str) -> Size:
    shapes = ((400, 300), (400, 300), (400, 267), (400, 300), (300, 400), (267, 400), (400, 400))
    return shapes[int(rng.integers(len(shapes)))]


_SIZES: dict[str, Callable[[np.random.Generator, str], Size]] = {
    "dis": _dis_size,
    "thin": _thin_size,
    "hrsod": _hrsod_size,
    "fss": lambda rng, sizes: (224, 224),
    "coift": lambda rng, sizes: (640, 480) if rng.random() < 0.7 else (480, 640),
    "duts": _small_size,
    "ecssd": _small_size,
    "msra": _small_size,
}

_GROUPS = {
    "lattice": (5, "Frame", 3, "Lattice"),
    "wheel": (20, "Wheel", 1, "SpokedWheel"),
    "net": (14, "Net", 2, "SportsNet"),
    "fence": (9, "Fence", 1, "PicketFence"),
    "filigree": (1, "Accessories", 7, "Filigree"),
    "tower": (22, "Tower", 4, "Pylon"),
    "bicycle": (21, "Vehicle", 2, "Bicycle"),
    "cage": (3, "Container", 6, "BirdCage"),
}
_FIRST = (
    "amber",
    "ancient",
    "arctic",
    "banded",
    "black",
    "blue",
    "brass",
    "bronze",
    "broad",
    "carved",
    "coastal",
    "common",
    "copper",
    "coral",
    "crested",
    "dotted",
    "dusky",
    "dwarf",
    "eastern",
    "elder",
    "emerald",
    "faded",
    "forest",
    "giant",
    "gilded",
    "glazed",
    "golden",
    "great",
    "green",
    "grey",
    "hollow",
    "horned",
    "island",
    "ivory",
    "jade",
    "king_s",
    "lace",
    "lesser",
    "marbled",
    "meadow",
    "mossy",
    "mountain",
    "narrow",
    "northern",
    "ochre",
    "opal",
    "painted",
    "pale",
    "pearl",
    "plain",
    "purple",
    "red",
    "river",
    "royal",
    "ruby",
    "rustic",
    "sand",
    "scarlet",
    "silver",
    "slender",
    "smooth",
    "southern",
    "spotted",
    "steel",
    "striped",
    "summer",
    "swamp",
    "tin",
    "tropical",
    "velvet",
    "violet",
    "western",
    "white",
    "winter",
)


def fss_class(index: int) -> tuple[str, str]:
    """Return the name and the object family of class ``index``; all 1,000 names differ."""
    if index == 0:
        # One real FSS-1000 class has an apostrophe in its name; readers must cope with it.
        return "fool's_gold", "nugget"
    families = LOOKS["fss"].families
    kind = families[index % len(families)]
    return f"{_FIRST[index // len(families)].replace('_', chr(39))}_{kind}", kind


def _even(names: tuple[str, ...], count: int) -> list[str]:
    """Return ``count`` names, evenly spaced."""
    return [names[i * len(names) // count] for i in range(count)]


def _flickr(split: Split, index: int) -> str:
    # Leading with a number that grows with the index keeps stems unique without remembering them.
    mixed = number("flickr", split.set, split.split, index)
    return f"{100_000 + index * 137 + mixed % 137}{mixed % 9973:04d}_{mixed >> 24:010x}_o"


def _paths(split: Split, count: int, families: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the image path and the mask path of each picture of a split."""
    if split.set == "duts":
        folder = "DUTS-TR/DUTS-TR" if split.split == "train" else "DUTS-TE/DUTS-TE"
        for stem in _even(load_names(f"duts-{split.split}"), count):
            yield f"{folder}-Image/{stem}.jpg", f"{folder}-Mask/{stem}.png"
        return
    for index, family in enumerate(families):
        if split.set == "dis":
            group, name, kind, label = _GROUPS[family]
            stem = f"{group}#{name}#{kind}#{label}#{_flickr(split, index)}"
            folder = "DIS5K/DIS-TR" if split.split == "train" else "DIS5K/DIS-VD"
            yield f"{folder}/im/{stem}.jpg", f"{folder}/gt/{stem}.png"
        elif split.set == "thinobject":
            first = {"train": 1, "val": 5001, "test": 6001}[split.split]
            stem = f"{family}_PNG{first + index}"
            yield f"ThinObject5K/images/{stem}.jpg", f"ThinObject5K/masks/{stem}.png"
        elif split.set == "fss":
            stem = f"fewshot_data/fewshot_data/{fss_class(index // 10)[0]}/{index % 10 + 1}"
            yield f"{stem}.jpg", f"{stem}.png"
        elif split.set == "ecssd":
            stem = f"{index + 1:04d}"
            yield f"ECSSD/images/{stem}.jpg", f"ECSSD/ground_truth_mask/{stem}.png"
        elif split.set == "msra":
            stem = f"MSRA10K_Imgs_GT/Imgs/{60_000 + 13 * index}"
            yield f"{stem}.jpg", f"{stem}.png"
        else:
            folder = split.set.upper()
            stem = f"{family}_{index + 1:03d}" if folder == "COIFT" else _flickr(split, index)
            yield f"{folder}/images/{stem}.jpg", f"{folder}/masks/{stem}.png"


def _family(split: Split, index: int) -> str:
    # Without the seed: families are part of some names, and names must not change with it.
    if split.look == "fss":
        return fss_class(index // 10)[1]
    if split.look == "dis":
        return list(_GROUPS)[index % len(_GROUPS)]
    rng = np.random.default_rng(number("family", split.set, split.split, index))
    return choose_family(split.look, rng)


def pictures(split: Split, scale: Scale, seed: int) -> list[Picture]:
    """Return every picture of a split; picture i depends on seed, split, i and size mix only."""
    count = split.count(scale)
    families = [_family(split, index) for index in range(count)]
    out = []
    for index, (image, mask) in enumerate(_paths(split, count, families)):
        key = f"{GENERATOR}|{seed}|{split.set}|{split.split}|{index}|{scale.sizes}"
        kin = f"{GENERATOR}|{seed}|fss|class|{index // 10}" if split.set == "fss" else None
        rng = np.random.default_rng(number(key, "size"))
        width, height = _SIZES[split.look](rng, scale.sizes)
        out.append(Picture(image, mask, split.look, families[index], width, height, key, kin))
    return out


def lists(split: Split, made: Collection[Picture]) -> dict[str, str]:
    """Return the text files that belong to a split: path to content."""
    if split.set != "thinobject":
        return {}
    names = (picture.mask.rsplit("/", 1)[1] for picture in made)
    return {f"ThinObject5K/list/{split.split}.txt": "".join(f"{name}\n" for name in names)}


def chosen(sets: Collection[str] | None) -> tuple[Split, ...]:
    """Return the splits of the named sets, all if None, in the fixed order."""
    for name in sets if sets is not None else ():
        if name not in SETS:
            raise UserError(
                f"there is no set {name!r}{nearest(name, SETS)}",
                expected=f"some of {', '.join(SETS)}",
            )
    return tuple(split for split in SPLITS if sets is None or split.set in sets)
