"""What `hqdata build --plan` prints: the cost of a sample, of what is there or of the release."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import RenderableType

from hqdata.build.cost import Rates, cost_table, published_sizes
from hqdata.bundles.find import find_bundles
from hqdata.recipe import Recipe
from hqdata.remote.origin import is_url, redact
from hqdata.resolve import SampleRequest

WORKERS = (1, 16, 64, 256)


def plan_tables(
    samples: Iterable[SampleRequest], recipe: Recipe, root: Path | str, workers: int | None = None
) -> Iterator[RenderableType]:
    """Lines and tables, from names and sizes alone.

    Args:
        samples: what is to be drawn.
        recipe: says how large a shard, and so a task, is.
        root: the data root, a folder or a URL.
        workers: a number of workers to have a column of, beside the usual ones.
    """
    columns = sorted({*WORKERS, *([] if workers is None else [workers])})
    measured = Rates()
    by_bytes = int(recipe.bytes_per_shard / measured.picture_bytes)
    rates = replace(measured, samples_per_task=max(1, min(recipe.samples_per_shard, by_bytes)))
    for request in samples:
        known = request.set
        bundles = find_bundles(root)
        remote = isinstance(root, str) and is_url(root)
        where = redact(root) if isinstance(root, str) else str(root)
        if bundles:
            sizes = [bundle.size for bundle in bundles]
            total = sum(sizes) / 1e9
            yield (
                f"{request.source}: {len(sizes):,} of {known.num_archives:,} archives, "
                f"{total:,.1f} GB, below {where}"
            )
        else:
            sizes = published_sizes(known)
            yield (
                f"{request.source}: no archive below {where}; reckoned with the release's "
                f"{known.num_archives:,} archives of {known.num_bytes / 1e12:.1f} TB in all"
            )
        whole = len(sizes) == known.num_archives
        for behind_url in (remote,) if bundles else (False, True):
            yield cost_table(
                sizes,
                num_images_wanted=request.settings.images,
                num_images=known.num_images if whole else None,
                remote=behind_url,
                workers=columns,
                rates=rates,
            )
    yield (
        "'busy from' is the number of workers from which the network or the disks are the limit.\n"
        "Archives that are gzip inside are read and decompressed from the front wherever they "
        "lie:\n"
        "as behind a URL, and more than a minute of computing each."
    )
