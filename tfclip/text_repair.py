"""Repairs wrongly decoded text and HTML entities, as the tokenizers of OpenAI and open_clip do."""

import html
from collections.abc import Iterable


def fix_text(text: str) -> str:
    """Return a text with its encoding repaired (ftfy), HTML entities replaced, and stripped.

    The same steps as in `basic_clean` of OpenAI's CLIP and open_clip, which their tokenizers apply
    before everything else.

    >>> fix_text("a cafÃ© &amp;amp; a dog ")
    'a café & a dog'
    """
    import ftfy  # a sixth of the time of --help, which every command of texts would pay

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def repair_note(pairs: Iterable[tuple[str, str]]) -> str:
    """Return how many texts a repair changed, for pairs of a text before and after it.

    >>> repair_note([("a cafÃ©", "a café"), ("a dog", "a dog")])
    '--fix-text: 1 of 2 texts changed'
    """
    changed = [before != after for before, after in pairs]
    return f"--fix-text: {sum(changed)} of {len(changed)} texts changed"
