"""The parts of the card that say how far the data set can be trusted, and what stands on top."""

from __future__ import annotations

from hqdata.hub.facts import CardFacts
from hqdata.hub.markdown import code, table, text
from hqdata.hub.recipe_file import where_removed
from hqdata.overlap.report import OverlapReport
from hqdata.recipe import recipe_names

Notice = tuple[str, str]
"""(kind of the notice on the Hub: NOTE or WARNING, Markdown of one line)."""

_SHOWN = 8

_VERDICTS = {
    "clean": "no training image was found in any evaluation set",
    "overlap": "training images were found in evaluation sets",
    "incomplete": "nothing was found, but not everything could be searched",
}
_WITHIN = {
    "clean": "no image was found twice; no evaluation set was searched",
    "overlap": "images were found twice; no evaluation set was searched",
    "incomplete": "nothing was found twice, but not everything could be searched, and no "
    "evaluation set was",
}
"""Of a report that looked for duplicates inside the data set."""


def notices(facts: CardFacts) -> list[Notice]:
    """What a reader must not miss."""
    return [
        *_about_pictures(facts),
        *_about_proof(facts),
        *_about_counts(facts),
        *_about_samples(facts),
    ]


def _about_pictures(facts: CardFacts) -> list[Notice]:
    found = []
    if facts.is_stand_in:
        found.append(
            (
                "WARNING",
                "**Drawn pictures, no research data.** `hqdata mini` drew every picture and mask. "
                "They lie in the layouts of the real sets and carry their names; nothing of the "
                "real sets is in them. Results on them mean nothing.",
            )
        )
    elif facts.stand_ins:
        names = ", ".join(code(item.source) for item in facts.stand_ins)
        found.append(
            (
                "WARNING",
                f"**Drawn pictures among the real ones.** `hqdata mini` drew all of {names}; "
                "nothing of the real sets of these names is in them.",
            )
        )
    if not facts.has_pictures:
        found.append(
            (
                "NOTE",
                "**No pictures here.** Names, digests and figures only: whoever has the sources "
                "builds the same shards from them.",
            )
        )
    return found


def _about_proof(facts: CardFacts) -> list[Notice]:
    report = facts.certificate
    if report is None:
        if facts.is_evaluation:
            return []
        return [
            (
                "WARNING",
                "**No overlap certificate.** Nothing shows that these images are in no evaluation "
                "set. Before you report results, run `hqdata verify-no-overlap shards/`.",
            )
        ]
    faults = "; ".join(map(text, facts.certificate_faults))
    if report.verdict == "overlap" and not report.within:
        number = len({pair.train for pair in report.confirmed()})
        of = "" if facts.certificate_covers == "exactly" else " of the larger data set it covers"
        why = f" It is no certificate: {faults}." if faults else ""
        return [
            (
                "WARNING",
                f"**Overlap.** The search found {_images(number)}{of} in an evaluation set; see "
                f"`overlap.json`.{why}",
            )
        ]
    if faults or report.verdict != "clean":
        why = f": {faults}" if faults else "; see below"
        return [
            (
                "WARNING",
                "**Not proven clean.** The search for overlap with evaluation sets, "
                f"`overlap.json`, is no certificate for this data set{why}.",
            )
        ]
    return []


def _about_counts(facts: CardFacts) -> list[Notice]:
    if facts.info.complete:
        return []
    short = [
        f"{code(source)} {code(split)} {counts.built:,} of {counts.expected:,}"
        for source, splits in facts.info.sources.items()
        for split, counts in splits.items()
        if not counts.complete and counts.expected is not None
    ]
    return [("WARNING", f"**Not as many images as expected:** {', '.join(short)}.")]


def _about_samples(facts: CardFacts) -> list[Notice]:
    return [
        (
            "WARNING",
            f"**A sample of some archives.** {code(where)} was drawn from {item.archives:,} of "
            f"{item.archives_expected:,} archives: it stands for these, not for the whole set.",
        )
        for where, item in (facts.info.sampled or {}).items()
        if item.cluster
    ]


def built(facts: CardFacts) -> str:
    """Recipe, digest, versions, checks: a list."""
    info, recipe = facts.info, facts.info.recipe
    own = "" if info.name in recipe_names() else ", the publisher's own"
    name = f"{code(info.name)}{own}"
    absent = f", without {', '.join(map(code, facts.absent))}" if facts.absent else ""
    tool = [f"{text(name)} {text(version)}" for name, version in info.tool.items()]
    disk = "" if facts.has_pictures else " on the publisher's disk"
    where = (
        f"Before the upload every shard{disk} was compared with its SHA-256 in `dataset.json`; "
        "after it, every file on the Hub with what was sent: large ones by size and SHA-256, small "
        "ones, which git keeps, by size and git's own SHA-1."
    )
    lines = [
        f"Recipe {name}{absent}; seed {recipe.get('seed', 0)}, up to "
        f"{recipe.get('samples_per_shard', 384):,} samples a shard.",
        f"Digest {code(info.digest)}: the SHA-256 of what `sha256sum` prints for the shards, "
        "sorted by path. Any machine with the same sources, recipe and versions makes it again.",
        f"Made with {', '.join(tool)}.",
        f"{where} `hqdata check shards/` re-reads every picture.",
    ]
    if info.removed is not None:
        lines.append(
            f"{_images(info.removed.num_keys)} left out because a search for overlap named "
            f"{'it' if info.removed.num_keys == 1 else 'them'} (report "
            f"{code(info.removed.report_sha256[:12])}, of data set "
            f"{code(info.removed.dataset_digest[:12])}); {code(where_removed(info))} in "
            f"`dataset.json` names {'it' if info.removed.num_keys == 1 else 'them'}."
        )
    return "\n".join(f"- {line}" for line in lines)


def overlap(facts: CardFacts) -> str:
    """What was searched, and what was found."""
    report = facts.certificate
    if report is None:
        if facts.is_evaluation:
            return "These are evaluation sets; training sets are held against them."
        return "No search for overlap with evaluation sets goes along with this data set."
    rows = [
        [
            code(one.set),
            f"{one.num_images:,}",
            one.how,
            "; ".join(map(text, one.problems)) or "–",
        ]
        for one in report.evaluation
    ]
    searched = table("lrll", ["evaluation set", "images", "from", "remarks"], rows)
    parts = ["\n".join(f"- {line}" for line in _findings(facts, report))]
    return "\n\n".join([*parts, *([searched] if rows else [])])


def _findings(facts: CardFacts, report: OverlapReport) -> list[str]:
    verdict = _WITHIN[report.verdict] if report.within else _VERDICTS[report.verdict]
    lines = [f"Verdict **{report.verdict}**: {verdict}."]
    if facts.certificate_covers == "more":
        lines.append(
            f"The search was of a larger data set ({_images(report.num_train)}, digest "
            f"{code(report.dataset_digest)}), of which this is a part."
        )
    else:
        lines.append(
            f"It searched all {_images(report.num_train)} of exactly this data set "
            f"({code(report.dataset_digest[:12])})."
        )
    confirmed = len(report.confirmed())
    lines.append(
        f"{confirmed:,} confirmed pairs, {len(report.pairs) - confirmed:,} hints to look at that "
        "prove nothing."
    )
    lines.append(_self_test(report))
    for what, names in (
        ("Evaluation sets of the recipe that were not there", report.missing),
        ("Pictures that could not be read", [f"{one.set}/{one.name}" for one in report.unread]),
    ):
        shown = ", ".join(map(code, names[:_SHOWN]))
        more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
        lines.append(f"{what}: {shown}{more}." if names else f"{what}: none.")
    if report.subset:
        lines.append("Counts of the evaluation sets were not held against anything (`--subset`).")
    return lines


def _self_test(report: OverlapReport) -> str:
    tests = report.self_test
    if not tests:
        return "No self-test was run."
    planted = sum(test.planted for test in tests.values())
    found = sum(test.found for test in tests.values())
    weak = [code(name) for name, test in tests.items() if not test.held]
    held = f"missed too many of {', '.join(weak)}" if weak else "held for every kind"
    return (
        f"Self-test: of {planted:,} altered copies planted in {len(tests)} kinds (crops, pasted "
        f"objects, re-encodings and the like) the same search found {found:,} and {held}; "
        f"{report.false_pairs:,} were paired wrongly."
    )


def _images(number: int) -> str:
    return f"{number:,} image" + ("" if number == 1 else "s")
