"""Figures in words, the same in the terminal and on the page."""

from __future__ import annotations

from hqdata.report.stats import Figures, Group, Spread
from hqdata.shards.dataset import SampleInfo

NONE = "–"


def count(number: int | None) -> str:
    """A count with thousands separators; a dash for None."""
    return NONE if number is None else f"{number:,}"


def size(num_bytes: int) -> str:
    """Bytes in the largest binary unit that leaves at least 1, e.g. `31.3 MiB`."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    step = min(max(0, num_bytes.bit_length() - 1) // 10, len(units) - 1)
    value = num_bytes / 1024**step
    return f"{value:,.1f} {units[step]}" if step and value < 100 else f"{value:,.0f} {units[step]}"


def percent(share: float) -> str:
    """A share 0…1 in percent, with one decimal; never rounded to 0 or 100 where it is not."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    return ">99.9 %" if 0.9995 <= share < 1 else f"{share * 100:.1f} %"


def short(value: float) -> str:
    """A figure with about three digits: `1.14`, `23.7`, `355`, `1,204`."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def whole(value: float) -> str:
    """A count that interpolation may have made half: `262` or `262.5`."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def pixels(value: float) -> str:
    """A number of pixels, without separators as sizes are written; halves are rounded up."""
    return str(int(value + 0.5))


def extent(spread: Spread) -> str:
    """The smallest and largest value of a size in pixels, e.g. `224–1600`."""
    low, high = pixels(spread.minimum), pixels(spread.maximum)
    return low if low == high else f"{low}–{high}"


def sides(figures: Figures) -> str:
    """Median width × median height in pixels."""
    return f"{pixels(figures.width.median)} × {pixels(figures.height.median)}"


def state(group: Group) -> str:
    """Whether a group is complete, and if not by how much."""
    parts = []
    if group.missing:
        parts.append(f"{group.missing:,} missing")
    if group.surplus:
        parts.append(f"{group.surplus:,} too many")
    if not parts and group.expected is None:
        return "any number"
    return ", ".join(parts) or "complete"


def drawn(item: SampleInfo) -> str:
    """What a sample from archives is, in a few sentences."""
    masks = {0: "all masks of each", 1: "one mask of each"}.get(
        item.masks, f"up to {item.masks:,} masks of each"
    )
    last = f", the last of them {item.last_hash}" if item.last_hash else ""
    parts = [
        f"{item.drawn:,} of the {item.images_seen:,} images in {item.archives:,} of "
        f"{item.archives_expected:,} archives, {masks}: those whose numbers have the smallest "
        f"keyed hash (seed {item.seed}{last})."
    ]
    if filters := _filters(item):
        parts.append(f"Only masks with {', '.join(filters)}.")
    if item.replaced:
        parts.append(f"{item.replaced:,} could not be used; the next in this order took the place.")
    if item.cluster:
        parts.append(
            "It is a sample of these archives, not of the whole set: what all of them lack is "
            "missing."
        )
    return " ".join(parts)


def _filters(item: SampleInfo) -> list[str]:
    found = []
    if item.min_predicted_iou > 0:
        found.append(f"a predicted IoU of at least {item.min_predicted_iou:g}")
    if item.min_stability_score > 0:
        found.append(f"a stability score of at least {item.min_stability_score:g}")
    if item.min_area_fraction > 0:
        found.append(f"an area of at least {percent(item.min_area_fraction)} of the picture")
    if item.max_area_fraction < 1:
        found.append(f"an area of at most {percent(item.max_area_fraction)} of the picture")
    return found
