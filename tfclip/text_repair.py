"""Repairs wrongly decoded text and HTML entities, as the tokenizers of OpenAI and open_clip do."""

import html


def fix_text(text: str) -> str:
    """Return a text with its encoding repaired (ftfy), HTML entities replaced, and stripped.

    The same steps as in `basic_clean` of OpenAI's CLIP and open_clip, which their tokenizers apply
    before everything else.

    >>> fix_text("a cafÃ© &amp;amp; a dog ")
    'a café & a dog'
    """
    import ftfy  # a sixth of the time of --help, which every command of texts would pay

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()
