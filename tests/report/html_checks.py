"""What a page must be, whatever is on it: well-formed, on its own, and usable without a mouse or a screen."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

VOID = {"meta", "input", "img", "link", "br", "hr"}


class Page(HTMLParser):
    """A strict reader: every element is closed in its order. Keeps the elements and the numbers."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = text
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.numbers: dict[str, list[tuple[float, str]]] = {}  # key -> (exact value, text), in the order of the page
        self.words: list[str] = []
        self._number: tuple[str, float] | None = None
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "data":
            self._number = (dict(attrs)["data-key"], float(dict(attrs)["value"]))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack and self.stack.pop() == tag, f"</{tag}> does not close what is open"
        if tag == "data":
            self._number = None

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.words.append(data)
        if self._number:
            key, value = self._number
            self.numbers.setdefault(key, []).append((value, data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def check(text: str) -> Page:
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "for"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
        if (attributes.get("href") or "").startswith("#"):
            assert attributes["href"][1:] in ids
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", text)
    assert not {tag for tag, _ in page.elements} & {"link", "iframe", "object", "embed", "base", "form"}
    assert "default-src 'none'" in text
    # For a screen reader: a language, one main, one h1, no heading skipped, names for pictures, scopes for headers.
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("nav")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    for tag, attributes in page.elements:
        if tag == "th":
            assert attributes.get("scope") in ("col", "row")
        if tag == "svg" and attributes.get("class") != "lines":
            assert attributes.get("aria-hidden") or (attributes.get("role") == "img" and attributes.get("aria-label"))
        if tag == "img":
            assert "alt" in attributes
        if "tabindex" in attributes and attributes.get("id") != "main":
            assert attributes.get("aria-label")
    return page
