"""A JSON schema of configurations, for editors and for the reference: keys, types, defaults, and what they mean.

It knows the short forms that are read too. Names (of data, models, policies) are checked when a configuration is read.
"""

from __future__ import annotations

import re
from typing import Any

from lrensemble.training.config import Config

DRAFT = "https://json-schema.org/draft/2020-12/schema"
ONE_OR_MANY = ("policies", "averages", "targets", "metrics")
NAMED = ("Named", "DataConfig")  # a name alone is one of them


def config_schema() -> dict[str, Any]:
    """The schema, as plain values."""
    schema = Config.model_json_schema()
    for definition in (schema, *schema["$defs"].values()):
        _describe(definition)
    properties = schema["properties"]
    for key in ONE_OR_MANY:
        properties[key] = _either(properties[key], properties[key]["items"])
    properties["seeds"] = _either(properties["seeds"], {"type": "integer", "minimum": 1})
    lengths: dict[str, Any] = {"type": ["string", "number"]}
    properties["snapshots"] = _either(properties["snapshots"], lengths, {"type": "array", "items": lengths})
    for name in NAMED:
        schema["$defs"][name] = _either(schema["$defs"][name], {"type": "string"})
    schema["required"].remove("name")  # the file's
    return {"$schema": DRAFT, **schema}


def _either(full: dict[str, Any], *short: dict[str, Any]) -> dict[str, Any]:
    outside: dict[str, Any] = {key: full[key] for key in ("title", "description", "default") if key in full}
    inside = {key: value for key, value in full.items() if key not in outside}
    return outside | {"anyOf": [inside, *short]}


def _describe(definition: dict[str, Any]) -> None:
    """Move what a docstring says of attributes to the properties."""
    summary, _, attributes = definition.get("description", "").partition("\n\nAttributes\n----------\n")
    definition["description"] = _line(summary)
    for names, text in re.findall(r"^(\w[\w, ]*) : (.*(?:\n +.*)*)", attributes, re.MULTILINE):
        for name in names.split(", "):
            definition["properties"][name]["description"] = _line(text)


def _line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
