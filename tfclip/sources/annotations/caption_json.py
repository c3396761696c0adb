"""Captions from the JSON file of a picture, as written by img2dataset."""

import json

FIELDS = ("caption", "captions", "text")
"""The fields of captions, unless the user names others. Only the first of them present is read."""
MAX_TEXT_BYTES = 1_000_000
"""The largest text or JSON file of one picture."""


def json_captions(content: bytes, fields: tuple[str, ...] = ()) -> list:
    """Return the captions in a JSON object, not yet checked.

    Args:
        content: the file, UTF-8.
        fields: the fields to read, all of them; () for the first of `FIELDS` that is present. A
            field holds a text or a list of texts.

    Raises:
        ValueError: malformed JSON.

    >>> json_captions(b'{"key": "7", "captions": ["a dog", "a brown dog"]}')
    ['a dog', 'a brown dog']
    """
    try:
        value = json.loads(content.decode("utf-8-sig", errors="surrogateescape"))
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"malformed JSON: {error}") from None
    if not isinstance(value, dict):
        return []
    present = [value[field] for field in fields or FIELDS if field in value]
    chosen = present if fields else present[:1]
    return [text for entry in chosen for text in (entry if isinstance(entry, list) else [entry])]
