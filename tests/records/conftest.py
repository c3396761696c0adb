import io
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.sources.sample import Region, Rejected, Sample, Source


def pixels(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A smooth picture with a coloured corner, so that turning and mirroring show."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 200 // width, y * 200 // height, (x + y + 40 * seed) % 200], -1)
    rgb[: height // 4, : width // 4] = (250, 20, 20)
    return rgb.astype(np.uint8)


def encoded(array: np.ndarray, format: str = "JPEG", **options) -> bytes:
    out = io.BytesIO()
    options = {"quality": 90} | options if format == "JPEG" else options
    Image.fromarray(array).save(out, format, **options)
    return out.getvalue()


def samples(count: int, split: str = "train") -> list[Sample]:
    return [
        Sample(
            f"made/{split}{at}",
            encoded(pixels(40 + at, 30, at)),
            captions=(f"picture number {at}", "a wall  "),
            regions=(Region("a red corner", 0, 0, 10, 7),),
            labels=("wall",),
            split=split,
        )
        for at in range(count)
    ]


def source_of(items: dict[str, list[Sample | Rejected]]) -> Source:
    counts = {split: len(listed) for split, listed in items.items()}
    return Source("made", counts, lambda split: iter(items[split]), ("wall", "roof"))


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum bit by bit (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records_of(path, check: bool = True) -> list[bytes]:
    """Read a TFRecord file without TensorFlow: length, its checksum, data, its checksum."""
    content, at, records = path.read_bytes(), 0, []
    while at < len(content):
        (length,), (length_crc,) = (
            struct.unpack_from("<Q", content, at),
            struct.unpack_from("<I", content, at + 8),
        )
        data = content[at + 12 : at + 12 + length]
        (data_crc,) = struct.unpack_from("<I", content, at + 12 + length)
        if check:
            assert length_crc == masked(content[at : at + 8])
            assert data_crc == masked(data)
        records.append(data)
        at += 16 + length
    return records


@pytest.fixture(scope="session")
def made():
    """The functions of this file, since test modules do not import each other."""
    return SimpleNamespace(
        pixels=pixels,
        encoded=encoded,
        samples=samples,
        source_of=source_of,
        records_of=records_of,
    )


@pytest.fixture(scope="module")
def packed(made, tmp_path_factory):
    """30 records, six in each of five shards."""
    out = tmp_path_factory.mktemp("records") / "made"
    source = made.source_of({"train": made.samples(30), "val": made.samples(3, "val")})
    pack(source, out, PackOptions(workers=1, shards=5))
    return out
