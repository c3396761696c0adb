"""Archives of class folders: read like the folder, and every trick of a member is a reject."""

import io
import os
import stat
import struct
import tarfile
import zipfile

import pytest
from PIL import Image

from tfclip.sources.archives import members
from tfclip.sources.registry import open_source
from tfclip.sources.sample import Rejected, SourceOptions


def picture(n=0):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (n, 9, 9)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path):
    for n, name in enumerate(["red/0.jpg", "red/deep/1.JPEG", "gr een/2.png", "gr een/ü.jpg"]):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(n))
    (tmp_path / "data/.hidden").mkdir()
    (tmp_path / "data/.hidden/3.jpg").write_bytes(picture())
    (tmp_path / "data/red/notes.txt").write_text("x")
    return tmp_path / "data"


def packed(folder, archive, around=""):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [around + os.path.relpath(path, folder) for path in files]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
            for path, name in zip(files, names, strict=True):
                out.write(path, name)
            out.writestr("__MACOSX/red/._0.jpg", "x")
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix != ".tar" else "w") as out:
            for path, name in zip(files, names, strict=True):
                out.add(path, name)
    return archive


def items(source, split="train"):
    found = list(source.read(split))
    assert len(found) == source.counts[split]
    return found


@pytest.mark.parametrize("around", ["", "data/set/", "./"])
@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tgz"])
def test_an_archive_reads_like_its_folder(folder, tmp_path, capsys, ending, around):
    archive = packed(folder, tmp_path / f"a{ending}", around)
    plain, found = open_source("image_folder", folder), open_source("image_folder", archive)
    assert found.class_names == plain.class_names == ("gr een", "red")
    around = around.removeprefix("./")
    want = {
        (f"image_folder/{around}{item.key.partition('/')[2]}", item.labels, item.image.read_bytes())
        for item in items(plain)
    }
    assert {(item.key, item.labels, item.image) for item in items(found)} == want
    assert "1 files without a picture's extension are ignored: 1 .txt" in capsys.readouterr().err


def test_splits_in_an_archive(folder, tmp_path):
    root = tmp_path / "both"
    root.mkdir()
    for split in ("train", "val"):
        os.symlink(folder, root / split)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        for split in ("train", "val"):
            for path in sorted(folder.rglob("*.jpg")):
                out.write(path, f"top/{split}/{os.path.relpath(path, folder)}")
    source = open_source("image_folder", tmp_path / "a.zip", SourceOptions(splits=("val",)))
    assert source.counts == {"val": 2} and source.class_names == ("gr een", "red")
    assert {item.split for item in items(source, "val")} == {"val"}


def test_backslashes_of_windows_separate_folders_and_are_reported(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        for name, system in (("red\\1.jpg", 0), ("blue\\2.jpg", 10), ("blue/3\\4.jpg", 3)):
            entry = zipfile.ZipInfo(name)
            entry.create_system = system
            out.writestr(entry, picture())
        out.writestr(zipfile.ZipInfo("empty\\"), b"")
    source = open_source("image_folder", tmp_path / "a.zip")
    assert source.class_names == ("blue", "red")
    # On Linux a backslash is a letter like any other.
    assert sorted(item.key for item in items(source)) == [
        "image_folder/blue/2.jpg", "image_folder/blue/3\\4.jpg", "image_folder/red/1.jpg"
    ]  # fmt: skip
    assert "backslashes in 2 names are read as separators of folders" in capsys.readouterr().err


def evil_zip(path):
    content = picture()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a/good.jpg", content)
        out.writestr("a/../../etc/up.jpg", content)
        out.writestr("/abs/root.jpg", content)
        link = zipfile.ZipInfo("a/link.jpg")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        out.writestr(link, "/etc/passwd")
        with pytest.warns(UserWarning, match="Duplicate"):
            out.writestr("a/good.jpg", picture(9))
        out.writestr("a/secret.jpg", content)
        out.writestr("a/bomb.jpg", bytes(50_000_000))
        out.writestr("a/changed.jpg", content)
        out.writestr("a/bzip.jpg", content, zipfile.ZIP_BZIP2)
        out.writestr("alone.jpg", content)
    data = bytearray(path.read_bytes())
    secret = data.rindex(b"a/secret.jpg") - 46
    data[secret + 8] |= 1  # "encrypted"
    bomb = data.rindex(b"a/bomb.jpg") - 46
    data[bomb + 24 : bomb + 28] = struct.pack("<L", 1000)  # says that it is small
    changed = data.rindex(b"a/changed.jpg") - 46
    data[changed + 16] ^= 1
    path.write_bytes(data)


def test_every_trick_of_a_zip_is_a_reject(tmp_path):
    evil_zip(tmp_path / "a.zip")
    found = items(open_source("image_folder", tmp_path / "a.zip"))
    told = {item.key: item.reason for item in found if isinstance(item, Rejected)}
    assert len(found) - len(told) == 1
    assert list(told.values()) == [
        "a path that leads out of the archive",
        "a path that leads out of the archive",
        "a link",
        "duplicate name: an earlier member has it too",
        "encrypted",
        "damaged: more than the 1,000 bytes in the central directory",
        "damaged: wrong checksum",
        "compression method 12; allowed: stored (0), deflated (8)",
        "not in a class folder",
    ]


def test_every_trick_of_a_tar_is_a_reject(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as out:

        def add(name, content=None, **fields):
            one = tarfile.TarInfo(name)
            one.size = len(content or b"")
            for field, value in fields.items():
                setattr(one, field, value)
            out.addfile(one, io.BytesIO(content or b""))

        add("a/good.jpg", picture())
        add("../up.jpg", picture())
        add("a/sym.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add("a/hard.jpg", type=tarfile.LNKTYPE, linkname="a/good.jpg")
        add("a/pipe.jpg", type=tarfile.FIFOTYPE)
        add("a/good.jpg", picture(3))
        add("a/last.jpg", picture(4))
    whole = (tmp_path / "a.tar").read_bytes()
    found = items(open_source("image_folder", tmp_path / "a.tar"))
    told = [getattr(item, "reason", "") for item in found]
    assert told == [
        "",
        "a path that leads out of the archive",
        "a link",
        "a link",
        "not a regular file",
        "duplicate name: an earlier member has it too",
        "",
    ]
    (tmp_path / "cut.tar").write_bytes(whole[: whole.rindex(b"a/last.jpg") + 700])
    cut = items(open_source("image_folder", tmp_path / "cut.tar"))
    assert "cut" in cut[-1].reason


def test_zip64_and_large_members(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        for n in range(3):
            with out.open(f"a/{n}.jpg", "w", force_zip64=True) as file:
                file.write(picture(n))
        # More members than 16 bits count make Python's writer use the Zip64 end.
        for n in range(66_000):
            out.writestr(f"a/{n}.txt", "")
    assert len(items(open_source("image_folder", tmp_path / "a.zip"))) == 3
    monkeypatch.setattr(members, "MAX_PICTURE_BYTES", 100)
    assert {m.problem for m in members.archive_members(tmp_path / "a.zip")} == {
        "more than 100 bytes",
        "",
    }


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and nothing more", b"x" * 5000])
@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_what_is_no_archive_is_one_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileNotFoundError, match="no picture in class folders"):
        open_source("image_folder", tmp_path / name)
