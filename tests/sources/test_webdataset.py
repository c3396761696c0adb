import io
import json
import tarfile

import pytest
from PIL import Image

from tfclip.sources.sample import Rejected, Sample, SourceOptions
from tfclip.sources.webdataset import open_webdataset


def jpeg(color="teal"):
    out = io.BytesIO()
    Image.new("RGB", (6, 4), color).save(out, "JPEG")
    return out.getvalue()


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_what_webdataset_itself_writes_is_read(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    for shard in range(2):
        with webdataset.TarWriter(str(tmp_path / f"coco-{shard:05d}.tar")) as writer:
            for at in range(3):
                row = {"__key__": f"{shard}{at}", "jpg": jpeg(), "txt": f"text {shard} {at}"}
                writer.write(row | {"json": {"caption": "unused"}})
    with webdataset.TarWriter(str(tmp_path / "val-0.tar")) as writer:
        writer.write({"__key__": "v", "png": jpeg(), "json": {"caption": ["a", "b"], "text": "c"}})
    source = open_webdataset(tmp_path, SourceOptions())
    assert source.counts == {"train": 6, "val": 1}
    train = list(source.read("train"))
    assert [s.key for s in train] == [f"webdataset/{s}{a}" for s in range(2) for a in range(3)]
    assert train[4].captions == ("text 1 1",) and train[4].image == jpeg()
    assert next(source.read("val")).captions == ("a", "b")
    asked = open_webdataset(tmp_path, SourceOptions(splits=("val",), caption_fields=("text",)))
    assert next(asked.read("val")).captions == ("c",)


def test_bad_samples_are_listed_with_the_reason(tmp_path):
    link = tarfile.TarInfo("link.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    path = write_tar(
        tmp_path / "a.tar",
        [
            ("good.jpg", jpeg()),
            ("good.txt", b" kept as found "),
            ("mute.jpg", jpeg()),
            ("text.txt", b"no picture"),
            ("../../good.jpg", jpeg()),
            ("../../good.txt", b"only a name: nothing is unpacked"),
            ("latin.jpg", jpeg()),
            ("latin.txt", b"d\xf6g"),
            ("json.jpg", jpeg()),
            ("json.json", b'{"caption": '),
            ("good.png", jpeg()),
            ("good.txt", b"again"),
        ],
    )
    with tarfile.open(path, "a") as tar:
        tar.addfile(link)
    items = list(open_webdataset(path, SourceOptions()).read("train"))
    told = [i.captions[0] if isinstance(i, Sample) else i.reason.split(":")[0] for i in items]
    assert told == [
        " kept as found ",
        "no caption",
        "no picture among the files 'txt'",
        "only a name: nothing is unpacked",
        "no caption; caption 1",
        "malformed JSON",
        "duplicate id",
    ]
    assert items[0].captions == (" kept as found ",)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.55, 0.6, 0.7])
def test_a_shard_that_is_cut_off_is_listed_and_the_rest_is_read(tmp_path, share):
    members = [(f"{at}.{end}", jpeg()) for at in range(10) for end in ("jpg", "txt")]
    members = [(n, b"said" if n.endswith("txt") else c) for n, c in members]
    content = write_tar(tmp_path / "a-0.tar", members).read_bytes()
    content = content[: int(len(content.rstrip(b"\0")) * share)]
    (tmp_path / "a-0.tar").write_bytes(content)
    write_tar(tmp_path / "a-1.tar", [("x.jpg", jpeg()), ("x.txt", b"said")])
    source = open_webdataset(tmp_path, SourceOptions())
    items = list(source.read("train"))
    assert len(items) == source.counts["train"]
    assert isinstance(items[0], Sample) and items[-1].key == "webdataset/x"
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert any("is damaged" in item.reason for item in rejected)


def test_a_header_that_is_none_is_not_taken_for_the_end(tmp_path):
    members = [(f"{at}.{end}", jpeg()) for at in range(10) for end in ("jpg", "json")]
    members = [(n, b'{"text": "x"}' if n.endswith("json") else c) for n, c in members]
    content = bytearray(write_tar(tmp_path / "a.tar", members).read_bytes())
    place = content.index(b"5.jpg")
    content[place : place + 5] = b"?????"  # the header's checksum is wrong
    (tmp_path / "a.tar").write_bytes(content)
    items = list(open_webdataset(tmp_path, SourceOptions()).read("train"))
    assert [type(item) for item in items] == [Sample] * 5 + [Rejected]
    assert "a.tar is damaged" in items[-1].reason


def test_folders_without_shards_or_pictures_are_one_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected: a .tar file"):
        open_webdataset(tmp_path, SourceOptions())
    write_tar(tmp_path / "a.tar", [("a.txt", json.dumps("x").encode())])
    with pytest.raises(FileNotFoundError, match="no picture in"):
        open_webdataset(tmp_path, SourceOptions())
