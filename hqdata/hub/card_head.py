"""The YAML head of the card: what the Hub reads of it."""

from __future__ import annotations

import re
from typing import Any

import yaml

from hqdata.hub.configs import configs_of
from hqdata.hub.facts import CardFacts, title_of
from hqdata.hub.licences import NO_ADVICE, SAYS
from hqdata.hub.markdown import one_line
from hqdata.shards.names import SAMPLES_FILE

MIXED_LICENCE = "terms-of-each-source"
"""Licence name of a data set whose sources have several."""

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
"""The Hub's classes of size: fewer than so many samples."""

_MOST_WORDS = 120


def head_of(facts: CardFacts) -> dict[str, Any]:
    """The head as a dictionary, in the order in which it is written."""
    head: dict[str, Any] = {
        "pretty_name": one_line(facts.title)[:_MOST_WORDS],
        "license": "other",
        "license_name": _licence_name(facts),
        "license_link": f"{facts.url}#licences",
        "task_categories": ["image-segmentation", "mask-generation"],
        "size_categories": [_size(facts.info.num_samples)],
        "source_datasets": _source_datasets(facts),
        "tags": _tags(facts),
    }
    if facts.is_stand_in:
        head["annotations_creators"] = ["machine-generated"]
    if facts.decision.gated:
        head |= _gate(facts)
    if found := _configs(facts):
        head["configs"] = found
    return head


def head_yaml(facts: CardFacts) -> str:
    """The head as YAML, without its fences."""
    return yaml.dump(head_of(facts), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Writes equal lists out each time: an anchor is YAML that not every reader understands."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _licence_name(facts: CardFacts) -> str:
    """Of the one licence that all sources have, as the Hub spells names, or that they differ."""
    ids = {item.licence.id for item in facts.decision.terms}
    slug = re.sub(r"[^a-z0-9._-]+", "-", ids.pop().lower()).strip("-.") if len(ids) == 1 else ""
    return slug or MIXED_LICENCE


def _size(num_samples: int) -> str:
    return next((name for limit, name in _SIZES if num_samples < limit), "10M<n<100M")


def _source_datasets(facts: CardFacts) -> list[str]:
    found = []
    for item in facts.decision.terms:
        if item.stand_in or item.home is None:
            found.append("original")
        else:
            name = re.sub(r"[^a-z0-9]+", "-", title_of(item.source).lower()).strip("-")
            found.append(f"extended|other-{name}")
    return list(dict.fromkeys(found))


def _tags(facts: CardFacts) -> list[str]:
    tags = ["segmentation", "mask", "hqdata"]
    if facts.has_pictures:
        tags.insert(0, "webdataset")
    if facts.is_stand_in:
        return [*tags, "synthetic", "test-data"]
    if facts.is_of_the_paper:
        tags += ["hqseg-44k"]
    if facts.is_of_the_paper or facts.is_evaluation:
        tags += ["hq-sam", "segment-anything", "salient-object-detection"]
    return tags


def _gate(facts: CardFacts) -> dict[str, Any]:
    """What the Hub asks of whoever wants access."""
    lines = [
        f"{title_of(item.source)}: {item.licence.name} ({SAYS[item.audience]})"
        for item in facts.decision.terms
    ]
    prompt = (
        "Each source has its own terms, which hold for its pictures and masks here too: "
        + "; ".join(map(one_line, lines))
        + f". {NO_ADVICE}"
    )
    if facts.is_stand_in:
        prompt = "These pictures are drawn by program; they are no research data."
    fields: dict[str, Any] = {"Name": "text", "Affiliation": "text", "Intended use": "text"}
    if not facts.is_stand_in:
        fields["I use the pictures within the terms of each source"] = "checkbox"
    if facts.decision.audience != "public":
        fields["I do not hand copies on"] = "checkbox"
    return {
        "extra_gated_heading": "Access to this data set",
        "extra_gated_prompt": prompt,
        "extra_gated_fields": fields,
        "extra_gated_button_content": "Accept the terms and ask for access",
    }


def _configs(facts: CardFacts) -> list[dict[str, Any]]:
    if not facts.has_pictures:
        # Every row is a sample, whichever split of its source it is of: the column says which.
        files = [{"split": "train", "path": SAMPLES_FILE}]
        return [{"config_name": "samples", "data_files": files}]
    return [
        {
            "config_name": config.name,
            "data_files": [
                {"split": split, "path": list(patterns)} for split, patterns in config.splits
            ],
        }
        for config in configs_of(facts.info)
    ]
