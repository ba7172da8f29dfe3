"""What the Hub reads of a README.md, and what it refuses in one."""

from __future__ import annotations

import re
from typing import Any

import yaml

HEAD = re.compile(r"\A---[ \t]*\r?\n(.*?)(?:\r?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)

LICENCES = frozenset(
    (
        *("apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m"),
        *("bsd", "bsd-2-clause", "bsd-3-clause", "c-uda", "cc", "cc0-1.0", "cc-by-2.0"),
        *("cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0"),
        *("cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
        *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "gpl", "gpl-2.0", "gpl-3.0"),
        *("cdla-permissive-1.0", "cdla-permissive-2.0", "odc-by", "odbl", "pddl", "etalab-2.0"),
        *("agpl-3.0", "lgpl", "lgpl-3.0", "mpl-2.0", "unlicense", "wtfpl", "unknown", "other"),
    )
)


SIZES = frozenset(
    (
        *("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M"),
        *("100M<n<1B", "1B<n<10B", "10B<n<100B", "100B<n<1T", "n>1T"),
    )
)

TASKS = frozenset(
    (
        *(
            "depth-estimation",
            "feature-extraction",
            "image-classification",
            "image-feature-extraction",
        ),
        *("image-segmentation", "image-text-to-text", "image-to-3d", "image-to-image"),
        *("image-to-text", "image-to-video", "keypoint-detection", "mask-generation"),
        *("object-detection", "other", "text-to-image", "unconditional-image-generation"),
        *("video-classification", "visual-question-answering", "zero-shot-image-classification"),
        *("zero-shot-object-detection",),
    )
)
"""Of the Hub's tasks those that have to do with pictures."""


def front_matter(text: str) -> Any:
    """The YAML head of a card; None without one. Raises yaml.YAMLError."""
    match = HEAD.match(text)
    return yaml.safe_load(match[1]) if match else None


def check_card(text: str) -> tuple[list[str], list[str]]:
    """Errors and warnings about a card, somewhat like the Hub's."""
    try:
        data = front_matter(text)
    except yaml.YAMLError as error:
        return [f"YAML Metadata Error: {error}"], []
    if data is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(data, dict):
        return ["YAML Metadata Error: the metadata must be a mapping"], []
    errors = [*_licence_errors(data), *_list_errors(data), *_config_errors(data)]
    if not isinstance(data.get("extra_gated_fields", {}), dict):
        errors.append('"extra_gated_fields" must be of type object')
    return errors, _warnings(data)


def _warnings(data: dict[str, Any]) -> list[str]:
    lists = {"task_categories": TASKS, "size_categories": SIZES}
    return [
        f'The {name} "{value}" is not in the official list'
        for name, known in lists.items()
        for value in _as_list(data.get(name, []))
        if isinstance(value, str) and value not in known
    ]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _licence_errors(data: dict[str, Any]) -> list[str]:
    unknown = [x for x in _as_list(data.get("license", [])) if x not in LICENCES]
    return [f'"license" must be one of [{", ".join(sorted(LICENCES))}]'] if unknown else []


def _list_errors(data: dict[str, Any]) -> list[str]:
    names = ("tags", "task_categories", "task_ids", "language", "size_categories")
    return [
        f'"{name}" must be a string or a list of strings'
        for name in names
        if not all(isinstance(value, str) for value in _as_list(data.get(name, [])))
    ]


def _config_errors(data: dict[str, Any]) -> list[str]:
    errors = []
    configs = data.get("configs", [])
    if not isinstance(configs, list):
        return ['"configs" must be an array']
    for number, config in enumerate(configs):
        if not isinstance(config, dict) or not isinstance(config.get("config_name"), str):
            errors.append(f'"configs[{number}].config_name" is required')
            continue
        files = config.get("data_files", [])
        for index, item in enumerate(files if isinstance(files, list) else []):
            if isinstance(item, dict) and not {"split", "path"} <= set(item):
                errors.append(f'"configs[{number}].data_files[{index}]" needs "split" and "path"')
    names = [c.get("config_name") for c in configs if isinstance(c, dict)]
    if len(set(names)) < len(names):
        errors.append('"configs" must have different names')
    return errors
