"""What the site has beside docs/: the README as its first page, other files of the checkout, and reference pages.

Links between pages are written as they work in the checkout; here they become those of the site.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {  # file of the checkout -> page
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security_policy.md",
    "checkpoints/README.md": "project/pool_format.md",
}
PLACES = {page: path for path, page in OUTSIDE.items()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    made = {page: (ROOT / path).read_text() for path, page in OUTSIDE.items()}
    made |= {"reference/commands.md": commands(), "reference/configuration.md": configuration()}
    made |= {"reference/python.md": python()}
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    place = PLACES.get(here, f"docs/{here}")

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        found = os.path.normpath(os.path.join(os.path.dirname(place), target))  # noqa: PTH118, PTH120 (of names)
        page = OUTSIDE.get(found, found.removeprefix("docs/") if found.startswith("docs/") else None)
        if page is None:  # in the checkout alone
            return text
        start = os.path.dirname(here) or "."  # noqa: PTH120
        return f"{text}({os.path.relpath(page, start)}{anchor})"

    return re.sub(r"(!?\[[^\]]*\])\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)", link, markdown)


def commands() -> str:
    """The help of every command."""
    from lrensemble.cli.main import GROUPS, build_parser

    os.environ["COLUMNS"] = "100"
    _, parsers = build_parser()
    lines = ["# Commands", ""]
    for title, group in GROUPS.items():
        lines += [f"## {title}", ""]
        for name in group:
            lines += [f"### lrensemble {name}", "", "```text", parsers[name].format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def configuration() -> str:
    """Tables of the keys, of the schema that editors take."""
    from lrensemble.training.schema import config_schema

    schema = config_schema()
    sections = {"": schema} | {
        f"{key}.": schema["$defs"][name]
        for key, name in {"data": "DataConfig", "training": "Training", "engine": "Engine"}.items()
    }
    lines = [
        "# Configuration",
        "",
        "Made of the models that read configurations. `lrensemble init --schema` writes a JSON schema for editors; "
        "[the README](../index.md#configurations) has an example, [training](../training.md) the explanations.",
        "",
    ]
    for prefix, section in sections.items():
        inside = section if "properties" in section else section["anyOf"][0]
        lines += [f"## {prefix.rstrip('.') or 'All'}", "", section["description"], ""]
        lines += ["| key | type | default | |", "|---|---|---|---|"]
        for key, value in inside["properties"].items():
            must = key in inside.get("required", ())
            default = "needed" if must else f"`{_plain(value.get('default'))}`" if "default" in value else ""
            default = "" if key == "engine" else default
            cells = (f"`{prefix}{key}`", _type(value, schema["$defs"]), default, value.get("description", ""))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return str(value["name"]) if isinstance(value, dict) and "name" in value else json.dumps(value).strip('"')


def _type(value: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        keys = ", ".join(f"`{key}`" for key in definitions[name].get("properties", ()))
        below = dict.fromkeys(("Training", "Engine"), "keys below")
        known = {"Named": "name, or name and parameters", "DataConfig": "name, or name and keys", **below}
        return known.get(name, f"mapping of {keys}")
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_type(one, definitions) for one in value["anyOf"]))
    if "enum" in value or "const" in value:
        return ", ".join(f"`{one}`" for one in value.get("enum", [value.get("const")]))
    kind = value.get("type", "anything")
    if kind == "array":
        return f"list of {_type(value.get('items', {}), definitions)}"
    limits = [f"{sign} {value[key]:g}" for key, sign in LIMITS.items() if key in value]
    return " or ".join([kind] if isinstance(kind, str) else kind) + (f" {', '.join(limits)}" if limits else "")


LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def python() -> str:
    """All that `import lrensemble` offers, from the docstrings."""
    import lrensemble

    names = sorted(lrensemble._HOMES, key=str.lower)
    return "\n".join(
        ["# Python", "", "All that `from lrensemble import ...` offers.", "", *(f"::: lrensemble.{n}\n" for n in names)]
    )
