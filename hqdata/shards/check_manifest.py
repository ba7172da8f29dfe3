"""Holding the files of a manifest against one another, and against what else lies there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hqdata.errors import DatasetError
from hqdata.files import sha256_file
from hqdata.places import Place
from hqdata.problems import read_jsonl
from hqdata.shards.dataset import DatasetInfo, dataset_digest, timm_bytes
from hqdata.shards.names import PROBLEMS_FILE, SAMPLES_FILE, TIMM_FILE, Row


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as the manifest says.

    Attributes:
        path: file below the data set's folder.
        key: the sample concerned, or "".
        message: what was found and what should be there.
    """

    path: str
    key: str
    message: str


def check_manifest(info: DatasetInfo, rows: list[Row]) -> list[Damage]:
    """Whether `dataset.json` and `samples.parquet` say the same."""
    damages = []

    def differ(what: str, in_json: object, in_table: object) -> None:
        if in_json != in_table:
            damages.append(
                Damage("dataset.json", "", f"{what}: {in_json} here, {in_table} in {SAMPLES_FILE}")
            )

    differ("number of samples", info.num_samples, len(rows))
    built = {
        (source, split): counts.built
        for source, splits in info.sources.items()
        for split, counts in splits.items()
        if counts.built
    }
    differ("samples by split", built, dict(Counter((r["source"], r["split"]) for r in rows)))
    in_json = {shard.path: shard.num_samples for shard in info.shards if shard.num_samples}
    differ("samples by shard", in_json, dict(Counter(row["shard"] for row in rows)))
    if info.own_sha256() != info.manifest_sha256:
        damages.append(Damage("dataset.json", "", "was changed after it was written"))
    if dataset_digest(info.shards) != info.digest:
        damages.append(Damage("dataset.json", "", "the digest is not that of its list of shards"))
    for key, count in Counter(row["key"] for row in rows).items():
        if count > 1:
            damages.append(Damage(SAMPLES_FILE, key, f"the key stands there {count} times"))
    return damages


def check_folder(root: Path, place: Place, info: DatasetInfo) -> list[Damage]:
    """Shards that the manifest does not know, and a problems file that does not fit."""
    known = {shard.path for shard in info.shards}
    damages = [
        Damage(name, "", "is no shard of this data set")
        for name in place.names()
        if PurePosixPath(name).match("*/*.tar") and name.count("/") == 1 and name not in known
    ]
    damages += _check_timm_file(root, info)
    try:
        problems = read_jsonl(root / PROBLEMS_FILE)
    except DatasetError as error:
        return [*damages, Damage(PROBLEMS_FILE, "", error.what)]
    if sha256_file(root / PROBLEMS_FILE) != info.problems_sha256:
        damages.append(Damage(PROBLEMS_FILE, "", "its SHA-256 is not the one in dataset.json"))
    if len(problems) != info.num_problems:
        message = f"{len(problems)} problems here, {info.num_problems} in dataset.json"
        damages.append(Damage(PROBLEMS_FILE, "", message))
    return damages


def _check_timm_file(root: Path, info: DatasetInfo) -> list[Damage]:
    try:
        actual = (root / TIMM_FILE).read_bytes()
    except OSError as error:
        return [Damage(TIMM_FILE, "", f"cannot be read: {error.strerror}")]
    if actual != timm_bytes(info.shards):
        return [Damage(TIMM_FILE, "", "does not say what dataset.json does")]
    return []
