"""The page that every report is: one self-contained HTML file, which needs no script."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template


def render_page(
    *,
    title: str,
    subtitle: str,
    warnings: Sequence[str],
    sections: Sequence[tuple[str, str, str]],
    style: str,
) -> str:
    """A page with navigation, in light and dark.

    Args:
        title: Plain text.
        subtitle: Plain text.
        warnings: HTML, each the content of a box.
        sections: Of each its key, its title in plain text, and its HTML.
        style: CSS of the report's own, which comes after that of all.
    """
    page = Template((files("pipelines.reports") / "page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        style=style,
        navigation="".join(
            f'<li><a href="#{key}">{escape(name)}</a></li>' for key, name, _ in sections
        ),
        warnings="".join(f'<p class="warning" role="note">{text}</p>' for text in warnings),
        sections="\n".join(
            f'<section id="{key}" aria-labelledby="{key}-title">'
            f'<h2 id="{key}-title">{escape(name)}</h2>{body}</section>'
            for key, name, body in sections
        ),
    )
