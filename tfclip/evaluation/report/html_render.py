"""Renders pages from the templates of this package, everything in one file, with autoescape."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from tfclip.evaluation.report.glossary import TERMS


def number(value: object, digits: int = 3) -> str:
    """A figure as text; a dash where it is not defined."""
    if value is None or value != value:
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def label(name: str) -> str:
    """How a column is named: the term's label, or its own name."""
    return TERMS[name].label if name in TERMS else name


def term(name: str | None, text: str = "") -> Markup:
    """A term with its explanation on hover, linked to the glossary; other words as they are.

    Args:
        name: a key of `TERMS`, or a word that is none.
        text: to stand there; the label when not given.
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
        content: what the template names; text in it is escaped.
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
