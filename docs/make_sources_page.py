"""Writes `docs/sources.md` from the manifests.

python docs/make_sources_page.py            # write the page
python docs/make_sources_page.py --check    # exit 1 if it is not up to date
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from hqdata.catalogue.manifest import Defect, SetManifest, SplitFacts
from hqdata.catalogue.registry import load_manifests
from hqdata.catalogue.sampled import Figure, SampledSet, load_sampled

PAGE = Path(__file__).resolve().parent / "sources.md"
WIDTH = 108

INTRODUCTION = """\
# Sources and evaluation sets

Written by `docs/make_sources_page.py` from `manifests/*.yaml` and `manifests/sampled/*.yaml`;
change those, not this page.

Every layout below is found anywhere below the data root, as a folder or inside a .zip, .tar or
.tar.gz, with or without a folder of the archive's name around it, in upper or lower case. `{class}`
is one folder a class. `*` is any picture file; `*.jpg` and `*.png` are files of that kind.
`hqdata sources` says which layout it recognised. Where the same pictures fit several layouts, the
one listed first is taken.

Counts are those the sets publish, unless a note says otherwise. Sizes and digests of archives are
given where they are known. What is said of licences is what was found and where: information, not
legal advice.
"""

CERTAINTY = {
    "published": "",
    "from-lists": "counted in public lists",
    "common-knowledge": "common knowledge, no source seen",
}
SAMPLED = "Sets that a sample is drawn from"
ROLE = {"training": "Training sets", "evaluation": "Evaluation sets"}
ACTION = {
    "drop": "left out",
    "resize_mask": "mask brought to the picture's size if it differs",
    "accept": "taken as it decodes",
    "keep": "kept, and listed in every report",
}
MASKS = {
    "auto": "read by their levels: 0/255, 0/1, soft, ids",
    "object_ids": "object ids: every non-zero value is object",
}
PUSH = {
    "refuse": "not to be redistributed",
    "private": "private copies only",
    "private-gated": "private or gated copies only",
    "public": "may be public",
}


def page() -> str:
    """The whole page."""
    blocks = ["\n\n".join(map(wrapped, INTRODUCTION.strip().split("\n\n")))]
    role = ""
    for manifest in load_manifests().values():
        if manifest.role != role:
            role = manifest.role
            blocks.append(f"## {ROLE[role]}")
        blocks.append("\n".join(section(manifest)))
    blocks.append(f"## {SAMPLED}")
    blocks += ["\n".join(sampled_section(known)) for known in load_sampled().values()]
    return "\n\n".join(blocks) + "\n"


def section(manifest: SetManifest) -> Iterator[str]:
    """The lines about one set."""
    names = dict.fromkeys((manifest.short_name, manifest.full_name, *manifest.aliases))
    listed_names = ", ".join(f"`{name}`" for name in names)
    yield f"### {manifest.title}"
    yield ""
    yield wrapped(f"Names: {listed_names}. Home: <{manifest.home}>")
    yield ""
    yield from bullet(
        "Splits: " + ", ".join(split(name, facts) for name, facts in manifest.splits.items())
    )
    yield from bullet(f"Masks: {MASKS[manifest.masks]}")
    licence = manifest.licence
    evidence = " ".join(licence.evidence.split())
    yield from bullet(f"Licence: `{licence.id}`, {licence.name}; {PUSH[licence.push]}. {evidence}")
    yield ""
    yield "Layouts:"
    yield ""
    for layout in manifest.layouts:
        yield f"- {layout.name}"
        for name, spec in layout.splits.items():
            listed = f", list `{spec.list}`" if spec.list else ""
            levels = f", levels `{spec.mask_values}`" if spec.mask_values else ""
            yield from bullet(f"{name}: `{spec.images}`, `{spec.masks}`{listed}{levels}", "  - ")
    yield ""
    yield "Archives:"
    yield ""
    for archive in manifest.archives:
        facts = [f"`{archive.name}` ({archive.release})"]
        if archive.num_bytes is not None:
            facts.append(f"{archive.num_bytes:,} bytes")
        if archive.sha256 is not None:
            facts.append(f"SHA-256 `{archive.sha256}`")
        if archive.page is not None:
            facts.append(f"<{archive.page}>")
        note = f". {archive.note}" if archive.note else ""
        yield from bullet(", ".join(facts) + note)
    if manifest.defects:
        yield ""
        yield "Known defects, and what a build does:"
        yield ""
        for group in by_reason(manifest.defects):
            yield from bullet(defects(group))
    for title, lines in (("Overlap by construction", manifest.overlap), ("Notes", manifest.notes)):
        if lines:
            yield ""
            yield f"{title}:"
            yield ""
            for line in lines:
                yield from bullet(line if line.endswith((".", "html")) else f"{line}.")


def sampled_section(known: SampledSet) -> Iterator[str]:
    """The lines about one set of archives."""
    listed_names = ", ".join(f"`{name}`" for name in known.names)
    yield f"### {known.title}"
    yield ""
    yield wrapped(f"Names: {listed_names}. Home: <{known.home}>")
    yield ""
    yield from bullet(f"Split: {known.split}, as many images as the recipe asks for (`sample:`)")
    licence = known.licence
    evidence = " ".join(licence.evidence.split())
    yield from bullet(f"Licence: `{licence.id}`, {licence.name}; {PUSH[licence.push]}. {evidence}")
    yield from bullet(
        f"Archives: `{known.archive}` with `.tar`, `.tar.gz` or `.tgz`, or folders that they were "
        "unpacked to, anywhere below the data root, which may be a URL"
    )
    yield ""
    yield "The whole release:"
    yield ""
    figures: dict[Figure, str] = {
        "num_archives": f"{known.num_archives:,} archives",
        "num_images": f"{known.num_images:,} images",
        "num_bytes": f"{known.num_bytes:,} bytes",
    }
    for name, number in figures.items():
        yield from bullet(f"{number}: {' '.join(known.evidence[name].split())}")
    if known.notes:
        yield ""
        yield "Notes:"
        yield ""
        for line in known.notes:
            yield from bullet(line)


def split(name: str, facts: SplitFacts) -> str:
    """A split with its count."""
    remarks = [CERTAINTY[facts.certainty], "names known" if facts.names else ""]
    remark = "; ".join(filter(None, remarks))
    return f"{name} {facts.expect:,}" + (f" ({remark})" if remark else "")


def by_reason(found: tuple[Defect, ...]) -> list[list[Defect]]:
    """Defects of the same split, action and reason together, in the manifest's order."""
    groups: dict[tuple[object, ...], list[Defect]] = {}
    for defect in found:
        groups.setdefault((defect.split, defect.action, defect.reason), []).append(defect)
    return list(groups.values())


def defects(group: list[Defect]) -> str:
    """One line about defects of one reason."""
    first = group[0]
    where = f"{first.split}: " if first.split else ""
    names = ", ".join(f"`{defect.name or defect.file}`" for defect in group)
    reason = " ".join(first.reason.split())
    reported = ", ".join(
        f"<{word}>" for word in first.reported.split() if word.startswith(("http://", "https://"))
    )
    place = reported or first.reported
    return f"{where}{names}: {ACTION[first.action]}. {reason} Reported: {place}"


def wrapped(text: str) -> str:
    """A paragraph with lines of at most WIDTH characters."""
    return "\n".join(textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def bullet(text: str, mark: str = "- ") -> Iterator[str]:
    """An item of a list, its further lines indented."""
    yield from textwrap.wrap(
        text,
        WIDTH,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )


def main() -> None:
    """Writes or checks the page."""
    text = page()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == text else f"{PAGE} is out of date")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
