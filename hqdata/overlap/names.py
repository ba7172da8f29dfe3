"""Ids of photographs in the names that releases give their pictures.

Two pictures whose names carry the same id of the same archive were made from the same photograph,
or somebody numbered by chance: a hint to look at, never proof. Plain numbers are no ids: ECSSD and
HKU-IS share hundreds of them and no picture.
"""

from __future__ import annotations

import re

_FLICKR = re.compile(
    r"(?<![0-9A-Za-z])(?P<id>[1-9][0-9]{4,10})_(?P<secret>[0-9a-f]{10})"
    r"(?P<size>_(?:[a-z]|[1-9]k))?(?:_d)?$"
)
"""`<photo id>_<secret>_<size>`, as Flickr names the files it hands out; the secret is always ten
hexadecimal digits. Anchored at the end: what releases put before it varies, after it nothing comes.
"""

_SYNSET = re.compile(r"(?<![0-9A-Za-z])(n[0-9]{8}_[0-9]{1,7})(?![0-9A-Za-z])", re.IGNORECASE)
_ILSVRC = re.compile(
    r"(?<![0-9A-Za-z])ILSVRC(20[0-9]{2})_(train|val|test)_([0-9]{8})(?![0-9A-Za-z])", re.IGNORECASE
)
_COCO = re.compile(
    r"(?<![0-9A-Za-z])COCO_(?:train|val|test)20[0-9]{2}_([0-9]{12})(?![0-9A-Za-z])", re.IGNORECASE
)
_COCO_BARE = re.compile(r"0{6}([0-9]{6})")
"""COCO's ids end below 600,000; twelve digits that begin otherwise are a date and a time."""

_SUN = re.compile(r"(?<![0-9A-Za-z])(sun_[a-z]{16})(?![0-9A-Za-z])", re.IGNORECASE)

_SUFFIX = re.compile(r"\.(?:jpe?g|jpe|png|bmp|webp|tiff?|gif)$", re.IGNORECASE)


def source_ids(path: str) -> frozenset[tuple[str, str]]:
    """(archive, id) of every photograph id in the last component of a path.

    Archives are `flickr` (photo id), `imagenet` (`n01440764_10026`, `ILSVRC2012_test_00000003`),
    `coco` (the number without leading zeros) and `sun` (`sun_` and 16 letters). Mostly there is one
    or none.
    """
    name = _SUFFIX.sub("", path.rsplit("/", 1)[-1])
    found = {("imagenet", synset.lower()) for synset in _SYNSET.findall(name)}
    found |= {
        ("imagenet", f"ILSVRC{year}_{split.lower()}_{number}")
        for year, split, number in _ILSVRC.findall(name)
    }
    found |= {("sun", sun.lower()) for sun in _SUN.findall(name)}
    coco = [*_COCO.findall(name), *_COCO_BARE.findall(name if len(name) == 12 else "")]
    found |= {("coco", str(int(number))) for number in coco if int(number)}
    flickr = _FLICKR.search(name)
    # Digits alone on both sides are two numbers as likely as an id and a secret, unless a size
    # follows.
    if flickr and (flickr["size"] or not flickr["secret"].isdigit()):
        found.add(("flickr", flickr["id"]))
    return frozenset(found)
