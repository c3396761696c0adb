import os

import pytest

from tfclip.sources.safe_paths import check_text, find_file, keep_captions, parse_xml


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "outside.jpg").write_bytes(b"secret")
    folder = tmp_path / "data/pictures"
    folder.mkdir(parents=True)
    (folder / "here.jpg").write_bytes(b"picture")
    return folder


@pytest.mark.parametrize(
    "name",
    ["../../outside.jpg", "..", ".", "", "/etc/passwd", "a/../here.jpg", "a\0.jpg"]
    + ["here.jpg\n", "\udcff.jpg", None, 7, ["here.jpg"]],
)
def test_names_that_are_not_plain_are_refused(folder, name):
    with pytest.raises(ValueError, match="not a plain file name"):
        find_file(folder.parent, [folder], name)


def test_the_first_folder_that_has_the_file_is_taken(folder):
    assert find_file(folder.parent, [folder.parent, folder], "here.jpg") == folder / "here.jpg"
    for name in ("there.jpg", "x" * 5000):
        with pytest.raises(ValueError, match="no such file"):
            find_file(folder.parent, [folder.parent, folder], name)


def test_links_may_not_leave_the_data(folder, tmp_path):
    (folder.parent / "pool.jpg").write_bytes(b"picture")
    for name, target in {
        "inside.jpg": "here.jpg",
        "pool.jpg": "../pool.jpg",
        "out.jpg": "../../outside.jpg",
        "absolute.jpg": "/etc/passwd",
        "loop.jpg": "loop.jpg",
        "dangling.jpg": "nothing.jpg",
    }.items():
        (folder / name).symlink_to(target)
    for name in ("inside.jpg", "pool.jpg"):
        assert find_file(folder.parent, [folder], name) == folder / name
    for name in ("out.jpg", "absolute.jpg"):
        with pytest.raises(ValueError, match="a link out of the data folder"):
            find_file(folder.parent, [folder], name)
    for name in ("loop.jpg", "dangling.jpg"):
        with pytest.raises(ValueError, match="no such file"):
            find_file(folder.parent, [folder], name)


def test_the_picture_folder_itself_may_be_a_link(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "pictures").symlink_to(folder)
    assert find_file(linked, [linked / "pictures"], "here.jpg").read_bytes() == b"picture"


def test_only_regular_files_are_opened(folder):
    os.mkfifo(folder / "pipe.jpg")  # opening it would wait for ever
    (folder / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg"):
        with pytest.raises(ValueError, match="not a file"):
            find_file(folder.parent, [folder], name)


def test_texts_are_kept_exactly_or_dropped_with_a_reason():
    kept, dropped = keep_captions([" Two dögs . ", "", " \n", None, "x" * 10_001, "\ud800", "ok"])
    assert kept == (" Two dögs . ", "ok")
    assert [reason.split(":")[0] for reason in dropped] == [f"caption {n}" for n in range(2, 7)]
    assert check_text("x" * 10_000)
    with pytest.raises(ValueError, match="no caption; caption 1: empty"):
        keep_captions([""])


LAUGHS = '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    "text, reason",
    [
        (LAUGHS.encode(), "document type"),
        (f'<?xml version="1.0" encoding="utf-16"?>{LAUGHS}'.encode("utf-16"), "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        (b"<a>&lol;</a>", "malformed XML: undefined entity"),
        (b"<a><b></a>", "malformed XML"),
        (b"", "malformed XML"),
        (b'<?xml version="1.0" encoding="utf-99"?><a/>', "malformed XML: unknown encoding"),
        (b"<a>" + b" " * 1_000_000 + b"</a>", "more than 1,000,000 bytes"),
    ],
)
def test_dangerous_and_damaged_xml_is_refused(tmp_path, text, reason):
    (tmp_path / "a.xml").write_bytes(text)
    with pytest.raises(ValueError, match=reason):
        parse_xml(tmp_path / "a.xml")


def test_plain_xml_is_read(tmp_path):
    (tmp_path / "a.xml").write_text("<a><b>dög &amp; cat</b></a>", encoding="utf-8")
    assert parse_xml(tmp_path / "a.xml").findtext("b") == "dög & cat"
