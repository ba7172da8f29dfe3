"""What a push would do, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from hqdata.hub.certificate import Certificate
from hqdata.hub.licences import NO_ADVICE, SAYS, Terms
from hqdata.hub.plan import PushPlan
from hqdata.report import words


def licence_table(terms: Sequence[Terms]) -> Table:
    """Whose pictures these are, under which terms, and what these come to."""
    table = Table(title="terms of the sources", caption=NO_ADVICE)
    for name in ("source", "images", "size", "terms", "so"):
        table.add_column(name, justify="right" if name in ("images", "size") else "left")
    for item in terms:
        so = SAYS[item.audience]
        if item.permission is not None:
            so += f"\npermission of {item.permission.holder}, {item.permission.date}"
        table.add_row(
            item.source,
            words.count(item.num_samples),
            words.size(item.num_bytes),
            Text(f"{item.licence.name}\n{item.licence.url or ''}".strip()),
            Text(so),
        )
    return table


def files_table(plan: PushPlan) -> Table:
    """What would lie in the repository."""
    table = Table(title=f"to the data set {plan.repo_id} on the Hub")
    for name in ("files", "number", "size"):
        table.add_column(name, justify="left" if name == "files" else "right")
    for source in plan.manifest.info.sources:
        shards = [file for file in plan.shards if file.path.startswith(f"{source}/")]
        if shards:
            size = words.size(sum(file.num_bytes for file in shards))
            table.add_row(f"{source}/*.tar", words.count(len(shards)), size)
    pictures = [file for file in plan.small_files if file.path.startswith("examples/")]
    for file in plan.small_files:
        if file not in pictures:
            table.add_row(file.path, "1", words.size(file.num_bytes))
    if pictures:
        size = words.size(sum(file.num_bytes for file in pictures))
        table.add_row("examples/*.jpg", words.count(len(pictures)), size)
    table.add_section()
    table.add_row("in all", words.count(len(plan.files)), words.size(plan.num_bytes))
    return table


def plan_lines(plan: PushPlan) -> Iterator[str]:
    """What the tables leave open: who will see it, and what goes along as proof."""
    decision = plan.decision
    if plan.what == "manifest":
        yield "pictures: none; names, digests and figures may always be published"
    seen = "private, shown to its owner only" if decision.private else "public"
    gated = (
        "; gated: whoever it is ever shown to has to ask for the files" if decision.gated else ""
    )
    yield f"visibility: {seen}{gated}"
    yield f"overlap certificate: {certificate_words(plan.certificate)}"
    yield f"digest {plan.digest}, tag {plan.tag}"
    yield from notes(plan)


def notes(plan: PushPlan) -> Iterator[str]:
    """What whoever pushes should have read, dry run or not."""
    for warning in plan.decision.warnings:
        yield f"note: {warning}"
    if not plan.manifest.info.complete:
        yield "note: the data set is not complete; the card says what is missing"


def certificate_words(certificate: Certificate | None) -> str:
    """One line about the proof that goes along."""
    if certificate is None:
        return "none; the card says so"
    if certificate.faults:
        return "; ".join(certificate.faults) + "; the card says so"
    sets = ", ".join(one.set for one in certificate.report.evaluation)
    of = (
        "" if certificate.covers == "exactly" else ", of the larger data set that this is a part of"
    )
    part = "; made with --subset: the sets may be parts of themselves"
    part = part if certificate.report.subset else ""
    return f"clean against {sets}{of}{part}"
