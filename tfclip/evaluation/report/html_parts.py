"""Pieces of the report page: tables that become cards on a narrow screen, figures, pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto; padding: 1rem;
  color: #1c1917; background: #fff; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; margin: 0.5rem 0; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 0.5rem; border-bottom: 1px solid #d6d3d1; }
h3 { font-size: 1rem; margin: 1.2rem 0 0.3rem; }
p { margin: 0.4rem 0; max-width: 60rem; }
pre { white-space: pre-wrap; background: #f5f5f4; padding: 0.8rem; font-size: 13px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.15rem 0.6rem; text-align: right; border-bottom: 1px solid #e7e5e4;
  overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; }
.figures { display: grid; gap: 0.6rem;
  grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.figures div { border: 1px solid #d6d3d1; border-radius: 6px; padding: 0.5rem 0.7rem; }
.figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.figures small { color: #57534e; display: block; }
.charts { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
.small { display: grid; gap: 0.8rem; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); }
figure { margin: 0; min-width: 0; }
figcaption { font-size: 0.85rem; }
svg { width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: #44403c; }
svg.matrix { max-width: 42rem; }
.grid { stroke: #e7e5e4; fill: none; } .at { stroke: #57534e; stroke-dasharray: 4 3; fill: none; }
.line { fill: none; stroke-width: 2; } .frame { fill: none; stroke: #a8a29e; }
.legend { display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; font-size: 0.85rem; margin: 0.2rem 0; }
.legend i { display: inline-block; width: 1.1em; height: 0.3em; margin-right: 0.4em;
  vertical-align: middle; }
.pictures { display: grid; gap: 0.9rem;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
.pictures img { width: 100%; height: auto; display: block; border-radius: 4px; }
.pictures figcaption span { display: block; }
.found { color: #166534; } .missed { color: #92400e; } .wrong { color: #b91c1c; }
@media (max-width: 46rem) {
  table.cards thead { display: none; }
  table.cards, table.cards tbody { display: block; }
  table.cards tr { display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.1rem 0.6rem;
    padding: 0.4rem 0; border-bottom: 1px solid #d6d3d1; }
  table.cards td { border: 0; padding: 0; text-align: left; min-width: 0; }
  table.cards td::before { content: attr(data-label) " "; color: #57534e; font-size: 0.75rem;
    display: block; }
  table.cards td:first-child { grid-column: 1 / -1; font-weight: 600; }
  table.cards td:first-child::before { content: none; }
}
"""


def escape(text: object) -> str:
    """Text for HTML, quotes too."""
    return html.escape(str(text), quote=True)


def number(value: object, digits: int = 3) -> str:
    """A figure as text; a dash where it is not defined."""
    if value is None or value != value:
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else escape(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table whose rows stand as cards on a narrow screen; the first column names the row."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{escape(column)}">{number(cell)}</td>'
            for column, cell in zip(columns, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f'<table class="cards"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def key_figures(figures: Mapping[str, tuple[float | None, Sequence[float] | None]]) -> str:
    """Figures in boxes: what it is to (value, 95 % interval or None)."""
    boxes = []
    for name, (value, interval) in figures.items():
        told = ""
        if interval is not None and interval[0] is not None:
            told = f"<small>{number(interval[0])} to {number(interval[1])}</small>"
        boxes.append(f"<div>{escape(name)}<b>{number(value)}</b>{told}</div>")
    return f'<div class="figures">{"".join(boxes)}</div>'


def chart(drawn: str, caption: str = "") -> str:
    """A chart with a line of text above it."""
    above = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{above}{drawn}</figure>"


def picture(jpeg: bytes, alt: str, lines: Sequence[tuple[str, str]]) -> str:
    """A picture with lines of text below, each (class of the style or "", text)."""
    data = base64.b64encode(jpeg).decode()
    told = "".join(
        f'<span class="{style}">{escape(text)}</span>' if style else f"<span>{escape(text)}</span>"
        for style, text in lines
    )
    return (
        f'<figure><img alt="{escape(alt)}" loading="lazy" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{told}</figcaption></figure>"
    )
