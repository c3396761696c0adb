"""Renders pages from the templates of this package, everything in one file, with autoescape."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import jinja2


def number(value: object, digits: int = 3) -> str:
    """A figure as text; a dash where it is not defined."""
    if value is None or value != value:
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


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
    environment.filters["number"] = number
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    return environment
