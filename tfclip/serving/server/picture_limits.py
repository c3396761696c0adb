"""Reads the number of pixels from the header of an encoded picture, without decoding it."""

from __future__ import annotations

import io
import warnings

from PIL import Image

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
_MAGIC = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"RIFF")

# No warning about large pictures: those that are too large are not decoded.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def declared_pixels(content: bytes) -> int | None:
    """Return height times width of an encoded picture, from its header.

    Returns:
        0 if no decoder accepts the content; None if it begins like a picture but its header cannot
        be read, so that it may have any number of pixels.
    """
    if not content.startswith(_MAGIC):
        return 0
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            return picture.width * picture.height
    except Image.DecompressionBombError:
        return 2**62
    except Exception:  # Pillow's readers raise many kinds on damaged files.
        return None
