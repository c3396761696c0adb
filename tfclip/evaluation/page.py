"""report.html of a run: every table and plot that was measured, in one file without a network."""

import base64
import html
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from tfclip.evaluation.report import classification_table, retrieval_table, voc_table
from tfclip.evaluation.sts import sts_table

PAGE_FILE = "report.html"
_TABLES: dict[str, tuple[str, Callable[[Mapping], str]]] = {
    "voc": ("Zero-shot, several labels to a picture", voc_table),
    "retrieval": ("Retrieval", retrieval_table),
    "classification": ("Zero-shot classification", classification_table),
    "sts": ("Sentence similarity", sts_table),
}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
pre { overflow-x: auto; background: #f4f4f4; padding: 1rem; font-size: 13px; }
img { max-width: 100%; height: auto; }
"""


def write_page(run: Path) -> Path:
    """Write `report.html` from the run's metrics/*.json and plots/*.png, and return its path.

    Args:
        run: a run directory with at least one measured benchmark.
    """
    parts = [f"<h1>{html.escape(run.resolve().name)}</h1>"]
    for name, (title, table) in _TABLES.items():
        path = run / "metrics" / f"{name}.json"
        if path.is_file():
            figures = json.loads(path.read_text(encoding="utf-8"))
            parts += [f"<h2>{title}</h2>", f"<pre>{html.escape(table(figures))}</pre>"]
            parts += map(_picture, sorted((run / "plots").glob(f"{name}_*.png")))
    config = run / "config.json"
    if config.is_file():
        text = html.escape(config.read_text(encoding="utf-8"))
        parts += ["<h2>Configuration</h2>", f"<pre>{text}</pre>"]
    page = run / PAGE_FILE
    page.write_text(
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(run.resolve().name)}</title>\n<style>{_STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</html>\n",
        encoding="utf-8",
    )
    return page


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}">'
