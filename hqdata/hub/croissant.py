"""The data set in the Croissant format 1.0, as JSON-LD that programs read.

Shards are files with digests, images and masks are sets of members of theirs, named by the key.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from hqdata.hub.facts import CardFacts
from hqdata.hub.licences import NO_ADVICE
from hqdata.hub.markdown import one_line
from hqdata.report import words
from hqdata.shards.names import SAMPLES_FILE

SPEC = "http://mlcommons.org/croissant/1.0"

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

_FORMATS = {
    ".tar": "application/x-tar",
    ".parquet": "application/x-parquet",
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".yaml": "application/yaml",
    ".jpg": "image/jpeg",
}

_COLUMNS = (
    ("key", "sc:Text", "unique in the data set; its files in the shard are named by it"),
    ("source", "sc:Text", "short name of the source"),
    ("split", "sc:Text", "split of the source"),
    ("shard", "sc:Text", "path of the shard in this repository"),
    ("width", "cr:Int32", "of image and mask, in pixels"),
    ("height", "cr:Int32", "of image and mask, in pixels"),
    ("upstream_image", "sc:Text", "path in the source's release"),
    ("upstream_mask", "sc:Text", "path in the source's release"),
    ("licence", "sc:Text", "id of the licence"),
    ("image_changes", "sc:Text", "'untouched', or what was done to the image"),
    ("mask_changes", "sc:Text", "'untouched', or what was done to the mask"),
    ("image_sha256", "sc:Text", "of the stored bytes of the image"),
    ("mask_sha256", "sc:Text", "of the stored bytes of the mask"),
    ("pixel_sha256", "sc:Text", "of the decoded image"),
    ("mask_area_fraction", "sc:Float", "share of mask pixels > 128"),
    ("mask_soft_fraction", "sc:Float", "share of mask pixels strictly between 0 and 255"),
    ("mask_components", "cr:Int64", "8-connected components of mask > 128"),
    ("mask_thinness", "sc:Float", "perimeter² / (4π area): 1 for a disc, hundreds for a net"),
)

_MEMBERS = {
    "image": "8-bit RGB or grayscale, upright.",
    "mask": "8-bit grayscale of the size of the image; 255 is object, and so is all > 128.",
}

_INTEGERS = {"cr:Int32": "sc:Integer", "cr:Int64": "sc:Integer"}

Files = Mapping[str, tuple[str, int]]
"""Path in the repository -> (SHA-256 in hexadecimal, number of bytes)."""


def croissant(facts: CardFacts, files: Files, *, published: datetime.date | None = None) -> bytes:
    """The file `croissant.json`. The same arguments give the same bytes.

    Args:
        facts: what the card is made from.
        files: every file of the repository that it should name. Records can be read with shards
            and `samples.parquet` among them.
        published: day of the first publication; validators ask for it, and nothing in a data set
            tells it.
    """
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": SPEC,
        "name": one_line(facts.title),
        "alternateName": facts.repo_id,
        "description": _description(facts),
        "url": facts.url,
        "version": _version(facts),
        "license": _licences(facts),
        "keywords": ["segmentation", "mask", "image"],
        "isAccessibleForFree": True,
        "citeAs": _citation(facts),
    }
    if published is not None:
        document["datePublished"] = published.isoformat()
    document["distribution"] = _distribution(facts, files)
    document["recordSet"] = _record_sets(facts, files)
    return (json.dumps(document, indent=1, ensure_ascii=True) + "\n").encode()


def _description(facts: CardFacts) -> str:
    info = facts.info
    number = f"{info.num_samples:,} images with a mask each, of {len(info.sources)} sources"
    parts = [f"{number}; data set digest {info.digest}."]
    if facts.is_stand_in:
        parts.append("Drawn by program, no research data.")
    if not facts.has_pictures:
        parts.append("Names, digests and figures only, no pictures.")
    return " ".join([*parts, f"Each source has its own terms. {NO_ADVICE}"])


def _version(facts: CardFacts) -> str:
    """A version by SemVer: that of the format, with the data set's digest as build."""
    return f"{facts.info.schema_version}.0.0+{facts.info.digest[:16]}"


def _licences(facts: CardFacts) -> list[str]:
    urls = [item.licence.url for item in facts.decision.terms if item.licence.url]
    return list(dict.fromkeys([*urls, f"{facts.url}#licences"]))


def _citation(facts: CardFacts) -> str:
    found = [t.citation for t in facts.decision.terms if t.citation and not t.stand_in]
    if found:
        return "\n\n".join(dict.fromkeys(found))
    # BibTeX of the data set itself, where no source has any.
    key = "".join(letter for letter in facts.info.name if letter.isalnum())
    title = one_line(facts.title)
    return f"@misc{{{key}, title = {{{title}}}, howpublished = {{{facts.url}}}}}"


def _distribution(facts: CardFacts, files: Files) -> list[dict[str, Any]]:
    found = [_file(facts, path, *files[path]) for path in sorted(files)]
    shards = [{"@id": _id(path)} for path in sorted(files) if path.endswith(".tar")]
    if not shards:
        return found
    image = facts.info.image_ext
    sets = (
        ("image-files", "images", "image/jpeg" if image == "jpg" else "image/png", _images(image)),
        ("mask-files", "masks", "image/png", ["*.mask.png"]),
    )
    for name, what, kind, patterns in sets:
        found.append(
            {
                "@type": "cr:FileSet",
                "@id": name,
                "name": name,
                "description": f"The {what} of all shards.",
                "containedIn": shards,
                "encodingFormat": kind,
                "includes": patterns if len(patterns) > 1 else patterns[0],
            }
        )
    return found


def _images(ext: str) -> list[str]:
    """Patterns of the images. Where they are PNG too, all that do not end in `.mask.png`."""
    if ext == "jpg":
        return ["*.jpg"]
    tail = ".mask"
    return [f"*[!{tail[-n]}]{tail[len(tail) - n + 1 :]}.png" for n in range(1, len(tail) + 1)]


def _file(facts: CardFacts, path: str, sha256: str, num_bytes: int) -> dict[str, Any]:
    suffix = path[path.rfind(".") :]
    return {
        "@type": "cr:FileObject",
        "@id": _id(path),
        "name": path,
        "description": f"{words.size(num_bytes)}",
        "contentUrl": f"{facts.url}/resolve/main/{quote(path)}",
        "contentSize": f"{num_bytes} B",
        "encodingFormat": _FORMATS.get(suffix, "application/octet-stream"),
        "sha256": sha256,
    }


def _id(path: str) -> str:
    return quote(path)


def _record_sets(facts: CardFacts, files: Files) -> list[dict[str, Any]]:
    found = []
    if SAMPLES_FILE in files:
        found.append(_table())
    if any(path.endswith(".tar") for path in files):
        found += _members_of(facts)
    return found


def _table() -> dict[str, Any]:
    """The columns of `samples.parquet`."""
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"records/{name}",
            "name": name,
            "description": what,
            "dataType": _INTEGERS.get(kind, kind),
            "source": {"fileObject": {"@id": SAMPLES_FILE}, "extract": {"column": name}},
        }
        for name, kind, what in _COLUMNS
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "records",
        "name": "records",
        "description": "A row a sample: where it comes from, what was done to it, how it looks.",
        "key": {"@id": "records/key"},
        "field": fields,
    }


def _members_of(facts: CardFacts) -> list[dict[str, Any]]:
    """Images and masks; both have the key, by which they belong together.

    They are two record sets because mlcroissant cannot join two sets of files: it has one column
    for the content of a file.
    """
    ext = facts.info.image_ext
    mask_types = ["sc:ImageObject", "cr:SegmentationMask"]
    return [
        _members("images", "image", "image-files", rf"^([^.]+)\.{ext}$", ["sc:ImageObject"]),
        _members("masks", "mask", "mask-files", r"^([^.]+)\.mask\.png$", mask_types),
    ]


def _members(name: str, field: str, file_set: str, regex: str, kinds: list[str]) -> dict[str, Any]:
    """A record set of the members of one kind: key and picture."""
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"The {field} of each sample; `key` is that of the other record sets.",
        "key": {"@id": f"{name}/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/key",
                "name": "key",
                "description": "Key of the sample: the name of the member up to its first dot.",
                "dataType": "sc:Text",
                "source": {
                    "fileSet": {"@id": file_set},
                    "extract": {"fileProperty": "filename"},
                    "transform": {"regex": regex},
                },
            },
            {
                "@type": "cr:Field",
                "@id": f"{name}/{field}",
                "name": field,
                "description": _MEMBERS[field],
                "dataType": kinds if len(kinds) > 1 else kinds[0],
                "source": {
                    "fileSet": {"@id": file_set},
                    "extract": {"fileProperty": "content"},
                },
            },
        ],
    }
