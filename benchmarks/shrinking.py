"""How the other sides of benchmarks.records check and shrink a picture: with Pillow."""

from io import BytesIO

from PIL import Image


def shrunk(data: bytes, image_size: int | None) -> bytes:
    """Decode a picture; return it as it is, or with its short side at `image_size`."""
    with Image.open(BytesIO(data)) as picture:
        picture.load()
        short = min(picture.size)
        if image_size is None or short <= image_size:
            return data
        size = tuple(max(1, round(side * image_size / short)) for side in picture.size)
        out = BytesIO()
        picture.convert("RGB").resize(size).save(out, "JPEG", quality=95)
        return out.getvalue()
