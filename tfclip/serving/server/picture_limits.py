"""How many pixels the header of an encoded picture declares, before anything is decoded."""

from __future__ import annotations

import io
import warnings

from PIL import Image

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
_MAGIC = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"RIFF")

# A warning about large pictures is of no use here: what is too large is not decoded.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def declared_pixels(content: bytes) -> int | None:
    """Height times width of an encoded picture by its header.

    Returns:
        0 for what no decoder takes; None for what begins like a picture and has no header that can
        be read: it may hold any number.
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
