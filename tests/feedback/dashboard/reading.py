"""What a page says, read from its HTML: the texts of elements by their id, and tables by theirs."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br", "line", "circle", "rect", "polyline", "path"}


class Page(HTMLParser):
    """texts: by id; tables: by id, rows of cells; tags: of everything, with attributes; inputs: values by name."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: dict[str, str] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inputs: dict[str, str] = {}
        self._open: list[tuple[str, str | None]] = []
        self._table: list[list[str]] = []
        self.feed(html)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "input":
            self.inputs[given.get("name") or ""] = given.get("value") or ""
        if tag not in VOID:
            self._open.append((tag, given.get("id")))
        if given.get("id"):
            self.texts[given["id"] or ""] = ""
        if tag == "table":
            self._table = self.tables[given.get("id") or f"table-{len(self.tables)}"] = []
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        for _, name in self._open:
            if name:
                self.texts[name] += data
        if any(tag in ("td", "th") for tag, _ in self._open):
            self._table[-1][-1] += data


def number(text: str) -> float:
    """The first number of a cell, such as $1,234.50 or 12.3 %."""
    digits = text.strip().split("\u202f")[0].split(" ")[0]
    return float(digits.replace("\u2212", "-").replace("$", "").replace(",", ""))
