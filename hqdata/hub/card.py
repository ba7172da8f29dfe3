"""The card of a published data set: its README.md, with the head that the Hub reads."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from hqdata.hub import card_proof, card_tables
from hqdata.hub.card_head import head_yaml
from hqdata.hub.configs import Config, configs_of
from hqdata.hub.facts import CardFacts, title_of
from hqdata.hub.licences import NO_ADVICE
from hqdata.hub.markdown import block, code, text
from hqdata.hub.names import CERTIFICATE_FILE, RECIPE_FILE
from hqdata.hub.recipe_file import own_folders, removes_the_same, where_removed
from hqdata.report import words
from hqdata.report.stats import Summary, summarise
from hqdata.shards.dataset import Dataset
from hqdata.shards.names import DATASET_FILE

__all__ = ["CardFacts", "render_card"]

HQ_SAM = """\
@inproceedings{ke2023segment,
  title     = {Segment Anything in High Quality},
  author    = {Ke, Lei and Ye, Mingqiao and Danelljan, Martin and Liu, Yifan and Tai, Yu-Wing and
               Tang, Chi-Keung and Yu, Fisher},
  booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
  year      = {2023}
}"""


def render_card(facts: CardFacts) -> str:
    """The whole of README.md. The same facts give the same text: no clock, no machine."""
    # Only the table and `dataset.json` are looked at, so that no folder is needed.
    summary = summarise(Dataset(Path(), facts.info, facts.rows))
    configs = configs_of(facts.info) if facts.has_pictures else ()
    page: str = _template().render(
        facts=facts,
        head=head_yaml(facts),
        title=facts.title,
        notices=card_proof.notices(facts),
        introduction=_introduction(facts),
        examples=_examples(facts),
        composition=card_tables.composition(summary),
        composition_note=_composition_note(facts, summary),
        samples=card_tables.samples(summary),
        figures=card_tables.figures(summary),
        licence_intro=_licence_intro(facts),
        licences=card_tables.licences(facts),
        evidence=card_tables.evidence(facts),
        permissions=card_tables.permissions(facts),
        no_advice=NO_ADVICE,
        configs=card_tables.configs(configs),
        **_loading(facts, configs),
        rebuild=_rebuild(facts),
        built=card_proof.built(facts),
        overlap=card_proof.overlap(facts),
        defects=card_tables.defects(facts),
        files=card_tables.files(facts),
        citation_intro=_citation_intro(facts),
        citations=block("\n\n".join(_citations(facts)), "bibtex"),
    )
    # File names may hold what is no valid Unicode.
    return page.encode("utf-8", "backslashreplace").decode()


def _template() -> Any:
    environment = Environment(
        # What is escaped for Markdown is not to be escaped for HTML once more.
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["text"] = text
    source = files("hqdata.hub").joinpath("card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _introduction(facts: CardFacts) -> str:
    info = facts.info
    number = len(info.sources)
    sources = "one source" if number == 1 else f"{number} sources"
    size = words.size(sum(shard.num_bytes for shard in info.shards))
    images = f"{info.num_samples:,} images, each with a mask of its object, from {sources}"
    shards = f"{len(info.shards):,} WebDataset shards ({size}), one source a shard"
    if facts.has_pictures:
        first = f"{images}: {shards}."
    else:
        first = f"The manifest of {images}: what is in each of its {shards}."
    return " ".join([first, *_origin(facts)])


def _origin(facts: CardFacts) -> list[str]:
    if facts.is_stand_in:
        return ["Drawn in the layouts of the real sources, for trying out tools."]
    if facts.is_evaluation:
        return ["For evaluation; never train on it."]
    if facts.is_of_the_paper:
        part = "It is" if facts.is_all_of_the_paper else "It is a part of"
        return [
            f"{part} HQSeg-44K, the training set of HQ-SAM (Segment Anything in High Quality, "
            "NeurIPS 2023), built anew from the sources' own releases with hqdata."
        ]
    described = str(facts.info.recipe.get("description") or "").rstrip(".")
    return [*([f"{text(described)}."] if described else []), "Built with hqdata."]


def _examples(facts: CardFacts) -> list[tuple[str, str, str]]:
    """(path, alternative text, caption) of each picture."""
    found = []
    for path, caption in facts.examples:
        name = text(title_of(caption))
        what = f"In the layout of {name}" if facts.is_stand_in else name
        found.append((path, f"{what}: three samples with their masks", f"**{what}**"))
    return found


def _composition_note(facts: CardFacts, summary: Summary) -> str:
    rejected = "Rejected samples had a problem (`problems.jsonl`); dropped ones are known defects"
    parts = [f"{rejected} or overlaps (`dataset.json`)."]
    if any(group.published is not None for group in summary.splits):
        table_5 = (
            "Table 5 is that of the paper's supplement."
            if summary.only_table_5
            else "Published are the counts of Table 5 of the paper's supplement or, for other "
            "splits, of the release."
        )
        parts.insert(0, table_5)
    if facts.is_stand_in:
        parts.append("The stand-in is smaller on purpose.")
    return " ".join(parts)


def _licence_intro(facts: CardFacts) -> str:
    if facts.is_stand_in:
        return "Everything here is drawn by program; nobody's rights are reserved."
    terms = "Each source has terms of its own, and the strictest decide for the whole."
    if not facts.has_pictures:
        return f"{terms} No picture is here; these are the terms of the pictures it describes."
    kept = [
        word
        for word, holds in (("private", facts.decision.private), ("gated", facts.decision.gated))
        if holds
    ]
    return terms + (f" So this repository is {' and '.join(kept)}." if kept else "")


def _loading(facts: CardFacts, configs: tuple[Config, ...]) -> dict[str, str]:
    """What the examples of loading need to name."""
    found = {
        "image_field": facts.info.image_ext,
        "first_split": "train",
        "second_config": "",
        "second_split": "train",
        "second_source": "",
        "split_note": "",
    }
    if not configs:
        return found
    found["first_split"] = configs[0].splits[0][0]
    left_out = [config for config in configs if config.name.startswith("no-") and config.splits]
    if left_out:
        found["second_config"] = left_out[0].name
        found["second_split"] = left_out[0].splits[0][0]
        found["second_source"] = left_out[0].name.removeprefix("no-")
    if facts.info.recipe.get("must_not_overlap"):
        found["split_note"] = (
            "All of it is one split, `train`: HQ-SAM trains on the test split of DUTS, too. The "
            "record says which split of its source a sample is of."
            if "duts" in facts.info.sources
            else "All of it is one split, `train`. The record says which split of its source a "
            "sample is of."
        )
    return found


def _rebuild(facts: CardFacts) -> str:
    if own := own_folders(facts.info):
        return (
            f"The sources {', '.join(map(code, own))} are folders of the publisher's own: to "
            "rebuild them takes these pictures and the recipe that named the folders."
        )
    command = f"hqdata build --recipe ./{RECIPE_FILE} --data-root data/ --out shards/"
    removed = facts.info.removed
    if removed is None:
        return block(command, "sh")
    if removes_the_same(facts.certificate, facts.info):
        return block(f"{command} --remove {CERTIFICATE_FILE}", "sh")
    images = f"{removed.num_keys:,} image{'' if removed.num_keys == 1 else 's'}"
    return (
        f"{block(command, 'sh')}\n\nThis builds {images} more, which a search for overlap named "
        f"and this data set leaves out: {code(where_removed(facts.info))} in `{DATASET_FILE}` "
        "names what was left out. The digest is that of the build without it."
    )


def _citation_intro(facts: CardFacts) -> str:
    if facts.is_stand_in:
        return "There is nothing to cite for drawn pictures. The method that they stand in for:"
    return "Cite HQ-SAM if you train or evaluate it, and the sources in any case."


def _citations(facts: CardFacts) -> list[str]:
    found = [HQ_SAM]
    for item in facts.decision.terms:
        if item.citation and not item.stand_in and item.citation not in found:
            found.append(item.citation)
    return found
