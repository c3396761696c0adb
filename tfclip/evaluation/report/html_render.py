"""Renders pages from the Jinja2 templates of this package, with autoescape."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from tfclip.evaluation.report.glossary import TERMS


def number(value: object, digits: int = 3) -> str:
    """Return a figure as text; a dash if it is undefined."""
    if value is None or value != value:
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def label(name: str) -> str:
    """Return the label of a term, or the name itself if it is no term."""
    return TERMS[name].label if name in TERMS else name


def term(name: str | None, text: str = "") -> Markup:
    """Return a link to the glossary with the explanation on hover; plain text for other words.

    Args:
        name: a key of `TERMS`, or another word.
        text: the text of the link; default: the label.
    """
    if name not in TERMS:
        return Markup.escape(text or name)
    return Markup('<a class="term" href="#term-{}" title="{}">{}</a>').format(
        name, TERMS[name].meaning, text or TERMS[name].label
    )


def render(template: str, **content: Any) -> str:
    """Return a page.

    Args:
        template: a file of `templates/`.
        content: the variables of the template; text is escaped.
    """
    return _environment().get_template(template).render(**content)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfclip.evaluation.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "label": label}
    environment.globals |= {"term": term, "terms": TERMS}
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    return environment
