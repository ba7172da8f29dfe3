"""The parts of the card that list things: composition, licences, configurations, defects, files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from hqdata.catalogue.manifest import Defect
from hqdata.catalogue.registry import load_manifests
from hqdata.hub.configs import Config
from hqdata.hub.examples import FOLDER
from hqdata.hub.facts import CardFacts, title_of
from hqdata.hub.licences import SAYS, Terms
from hqdata.hub.markdown import code, link, table, text
from hqdata.hub.names import CERTIFICATE_FILE, CROISSANT_FILE, RECIPE_FILE
from hqdata.hub.recipe_file import recipe_bytes
from hqdata.report import words
from hqdata.report.stats import Group, Summary
from hqdata.shards.names import DATASET_FILE, PROBLEMS_FILE, SAMPLES_FILE, TIMM_FILE

_NAMES_SHOWN = 12

_ACTIONS = {
    "drop": "left out",
    "resize_mask": "mask brought to the picture's size where it differs",
    "accept": "taken as it decodes",
    "keep": "kept",
}


def composition(summary: Summary) -> str:
    """Counts by source and split beside the recipe's and Table 5's."""
    rows = [[code(group.source), code(group.split), *_counts(group)] for group in summary.splits]
    for source, split, number in summary.absent:
        published = words.count(number)
        rows.append([code(source), code(split), words.NONE, "", published, "", "", ""])
    total = [f"**{cell}**" if cell else "" for cell in _counts(summary.total)]
    rows.append(["**total**", "", *total])
    headings = ["source", "split", "images", "expected", summary.published_label]
    return table("llrrrrrr", [*headings, "rejected", "dropped", "size"], rows)


def _counts(group: Group) -> list[str]:
    return [
        words.count(group.built),
        "any" if group.expected is None else words.count(group.expected),
        words.count(group.published),
        words.count(group.rejected),
        words.count(group.dropped),
        words.size(group.num_bytes),
    ]


def samples(summary: Summary) -> str:
    """What was drawn from archives, a line each; empty without any."""
    return "\n".join(f"- {code(where)}: {words.drawn(item)}" for where, item in summary.sampled)


def figures(summary: Summary) -> str:
    """What pictures and masks look like, by source; empty without samples."""
    rows = []
    for group in summary.sources:
        found = group.figures
        if found is not None:
            rows.append(
                [
                    code(group.source),
                    words.sides(found),
                    words.extent(found.longest_side),
                    words.percent(found.area_fraction.median),
                    words.percent(found.soft_fraction.median),
                    words.whole(found.components.median),
                    words.short(found.thinness.median),
                ]
            )
    headings = ["source", "width × height", "longest side", "object", "soft", "components"]
    return table("lrrrrrr", [*headings, "thinness"], rows) if rows else ""


def licences(facts: CardFacts) -> str:
    """A row a source: its terms, and what may be done with copies."""
    rows = [
        [
            code(item.source),
            "drawn in the layout of " * item.stand_in + link(title_of(item.source), item.home),
            link(item.licence.name, item.licence.url),
            SAYS[item.push] + (" (see the permission)" if _is_widened(item) else ""),
        ]
        for item in facts.decision.terms
    ]
    return table("llll", ["source", "data set", "terms", "copies"], rows)


def evidence(facts: CardFacts) -> str:
    """How the terms are known, a line a source; the same words once."""
    if facts.is_stand_in:
        return (
            "Every picture carries the mark of `hqdata mini`, which draws them; nothing of the "
            "real sets is in them."
        )
    said: dict[str, list[str]] = {}
    for item in facts.decision.terms:
        said.setdefault(item.licence.evidence, []).append(code(item.source))
    return "\n".join(f"- {', '.join(sources)}: {text(why)}" for why, sources in said.items())


def permissions(facts: CardFacts) -> str:
    """The recorded permissions: document, date and holder; empty without any."""
    rows = [
        [
            code(item.source),
            text(found.name),
            text(found.holder),
            text(found.granted_to),
            found.date.isoformat(),
            SAYS[found.allows] + (f", until {found.expires}" if found.expires else ""),
        ]
        for item in facts.decision.terms
        if (found := item.permission) is not None
    ]
    headings = ["source", "document", "given by", "given to", "date", "allows"]
    return table("llllll", headings, rows) if rows else ""


def _is_widened(item: Terms) -> bool:
    return item.permission is not None and item.audience != item.push


def configs(found: Sequence[Config]) -> str:
    """What `load_dataset(repo, name)` gives for each name; empty without any."""
    rows = [
        [
            code(config.name),
            ", ".join(
                f"{code(split)} {count:,}"
                for (split, _), count in zip(config.splits, config.num_samples, strict=True)
            ),
        ]
        for config in found
    ]
    return table("ll", ["configuration", "images"], rows) if rows else ""


def defects(facts: CardFacts) -> str:
    """What is known to be wrong: in the releases, and what this build met."""
    parts = [*_published_defects(facts), *_dropped(facts), *_problems(facts)]
    return "\n".join(parts) or "None."


def _published_defects(facts: CardFacts) -> Iterable[str]:
    for item in facts.decision.terms:
        manifest = load_manifests().get(item.source)
        if manifest is None or item.stand_in:
            continue
        groups: dict[tuple[str, str], list[Defect]] = {}
        for defect in manifest.defects:
            if defect.split is None or defect.split in facts.info.sources[item.source]:
                groups.setdefault((defect.action, defect.reason), []).append(defect)
        for (action, reason), group in groups.items():
            names = _shortened([code(defect.name or defect.file) for defect in group])
            places = dict.fromkeys(
                word for d in group for word in d.reported.split() if word.startswith("http")
            )
            seen = ", ".join(
                link("report" if len(places) == 1 else f"report {n}", url)
                for n, url in enumerate(places, 1)
            )
            tail = f" ({seen})" if seen else ""
            what = f"{names}. {text(reason)} A build: {_ACTIONS[action]}{tail}."
            yield f"- In the release of {code(item.source)}: {what}"


def _dropped(facts: CardFacts) -> Iterable[str]:
    by_why: dict[tuple[str, str], list[str]] = {}
    for gone in facts.info.dropped:
        by_why.setdefault((gone.source, gone.reason), []).append(code(gone.name))
    known = {defect.reason for found in load_manifests().values() for defect in found.defects}
    for (source, reason), names in by_why.items():
        why = "" if reason in known else f" {text(reason)}"
        yield f"- In this build, left out of {code(source)}: {_shortened(names)}.{why}"


def _problems(facts: CardFacts) -> Iterable[str]:
    counts: Counter[tuple[str, str]] = Counter()
    # Not splitlines(): a file name may hold U+2028 and its like, which JSON leaves as they are.
    for line in facts.manifest.problems.decode("utf-8").split("\n"):
        if line:
            row = json.loads(line)
            counts[(row["source"], row["kind"])] += 1
    by_source: dict[str, list[str]] = {}
    for (source, kind), number in sorted(counts.items()):
        by_source.setdefault(source, []).append(f"{number:,} {code(kind)}")
    for source, found in by_source.items():
        listed = ", ".join(found)
        yield f"- In this build, problems of {code(source)}: {listed} (see `{PROBLEMS_FILE}`)."


def _shortened(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def files(facts: CardFacts) -> str:
    """What lies in the repository."""
    rows = []
    if facts.has_pictures:
        rows.append(["`<source>/<split>-<i>-of-<n>.tar`", "the shards"])
    rows += [
        [code(DATASET_FILE), "recipe, counts, digest of every shard and of the whole, versions"],
        [code(SAMPLES_FILE), "a row a sample: place in its shard, record, fingerprints"],
        [code(PROBLEMS_FILE), "what was wrong with the input; may be empty"],
    ]
    if facts.has_pictures:
        rows.append([code(TIMM_FILE), "splits and lengths, for timm"])
    if recipe_bytes(facts.info) is not None:
        rows.append([code(RECIPE_FILE), "what `hqdata build` was asked for"])
    if facts.certificate is not None:
        rows.append([code(CERTIFICATE_FILE), "the search for overlap with evaluation sets"])
    rows.append([code(CROISSANT_FILE), "this data set in the Croissant format"])
    if facts.examples:
        rows.append([code(f"{FOLDER}/<source>.jpg"), "the pictures above"])
    return table("ll", ["file", "what it is"], rows)
