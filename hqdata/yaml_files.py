"""Reading YAML that people write, with messages that people can use."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from hqdata.errors import UserError, nearest

MAX_BYTES = 4 * 2**20


class _Loader(yaml.SafeLoader):
    """The safe loader, but a key that stands twice in one table is an error, not the last wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key != "<<" and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, what: str) -> Any:
    """The document in `path`, parsed by the safe loader.

    Raises:
        UserError: no such file, no text, larger than 4 MiB, or no YAML.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{size:,} bytes are too many for {what}", where=path)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {what}: {error.strerror}", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{what} is not UTF-8 text", where=path) from error
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise UserError(f"{what} is not valid YAML: {problem}{line}", where=path) from error
    except (ValueError, RecursionError) as error:
        # An impossible date, or brackets nested by the thousand.
        raise UserError(f"{what} is not valid YAML: {error}", where=path) from error


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Pydantic's findings, one a line: where, what, and the nearest valid name of an unknown
    key.
    """
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "the document"
        if item["type"] == "extra_forbidden":
            key = str(item["loc"][-1])
            known = _fields(model, item["loc"][:-1]) if model else []
            hint = nearest(key, known)
            lines.append(f"{where}: unknown key{hint}; known are {', '.join(known) or 'others'}")
        else:
            value = repr(item.get("input"))
            shown = value if len(value) <= 60 else value[:57] + "..."
            lines.append(f"{where}: {item['msg']}, not {shown}")
    return "\n".join(lines)


def _fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields at a place inside a model, as far as its annotations tell."""
    place: Any = model
    for part in loc:
        place = _step(place, part)
    found = _model_in(place)
    return [] if found is None else list(found.model_fields)


def _step(annotation: Any, part: int | str) -> Any:
    """The annotation of one field, item or value of what `annotation` says."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        info = annotation.model_fields.get(str(part))
        return None if info is None else info.annotation
    inner = [a for a in get_args(annotation) if a is not Ellipsis and a is not type(None)]
    if get_origin(annotation) in (tuple, list, dict):
        return inner[-1]
    return next((step for a in inner if (step := _step(a, part)) is not None), None)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation such as `Model | None` means."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, list, dict):
        return None
    return next((m for a in get_args(annotation) if (m := _model_in(a)) is not None), None)
