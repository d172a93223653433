"""Outline of an HTML page, whose elements must be closed in order."""

from html.parser import HTMLParser

_VOID = {"meta", "input", "br", "hr"}


class Outline(HTMLParser):
    """The elements and the text of a page.

    Attributes:
        tags: Names of the elements, in order.
        text: Text beside styles and scripts, with a space before each element.
        ids: Ids of elements.
        links: Values of `href` and `src`, in order.
        spoken: Names of the charts with their captions, in order.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.ids: list[str] = []
        self.links: list[str] = []
        self.spoken: list[str] = []
        self._open: list[str] = []
        self._label = ""
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.text += " "
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[key] for key in ("href", "src") if key in values]
        if values.get("role") == "img":
            self._label = values["aria-label"]
        if tag == "figcaption" and self._label:
            self.spoken.append(f"{self._label}: ")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "figure":
            self._label = ""

    def handle_data(self, data: str) -> None:
        if {"style", "script"} & set(self._open):
            return
        self.text += data
        if "figcaption" in self._open and self._label:
            self.spoken[-1] += data
