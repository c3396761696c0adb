import json
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfclip.sources import json_arrays
from tfclip.sources.json_arrays import id_of, read_value, walk_arrays

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("json") / "file.json"


@settings(max_examples=80, deadline=None)
@given(
    content=st.lists(VALUES, max_size=6) | st.dictionaries(st.text(), VALUES, max_size=6),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_elements_are_those_of_the_whole_file(path, content, chunk, indent, ascii_only):
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    path.write_bytes(f" \n{text}\n".encode())
    with patch.object(json_arrays, "CHUNK", chunk):
        elements = list(walk_arrays(path))
    arrays = {"": content} if isinstance(content, list) else content
    expected = [(name, v) for name, a in arrays.items() if isinstance(a, list) for v in a]
    assert [(e.array, e.value) for e in elements] == expected
    with path.open("rb") as file:
        assert [read_value(file, e.offset, e.length) for e in elements] == [v for _, v in expected]


def test_a_file_that_stops_anywhere_is_an_error(path):
    whole = json.dumps({"info": {"year": 2017}, "images": [{"id": 1}, -2.5, "é", True], "n": 12})
    for length in range(len(whole)):
        path.write_text(whole[:length])
        with pytest.raises(ValueError, match=r"file\.json, byte \d+: ") as error:
            list(walk_arrays(path))
        assert "the file is truncated" in str(error.value) or whole[length - 1] == "."


@pytest.mark.parametrize(
    "text, place, mistake",
    [
        ("12", 0, "neither a JSON array nor an object"),
        ("[1, 2] 3", 7, "text after the end"),
        ("[1 2]", 3, "expected ',', received '2'"),
        ('{"images" []}', 10, "expected ':'"),
        ('[{"id": 1}, {"id": what is this, "and": "that"}]', 19, "Expecting value"),
        ("[" * 100_000, 1, "nested too deeply"),
    ],
)
def test_damage_is_reported_with_its_place(path, text, place, mistake):
    path.write_text(text)
    with pytest.raises(ValueError, match=f"byte {place}: .*{mistake}"):
        list(walk_arrays(path))


def test_damage_does_not_read_the_rest_of_the_file(path):
    path.write_text('["' + "x" * 3000 + '"]')
    with patch.multiple(json_arrays, CHUNK=10, MAX_ELEMENT=1000):
        with pytest.raises(ValueError, match="more than 1,000 bytes"):
            list(walk_arrays(path))


def test_bytes_that_are_not_utf8_become_lone_surrogates(path):
    path.write_bytes(b'["caf\xe9", "caf\xc3\xa9"]')
    first, second = walk_arrays(path)
    assert first.value == "caf\udce9" and second.value == "café"


def test_an_image_id_is_a_number_that_fits():
    entries = [{"id": 7}, {"id": -7}, {"id": True}, {"id": "7"}, {"id": 7.0}, {"id": 1 << 63}, [7]]
    assert [id_of(entry, "id") for entry in entries] == [7, -1, -1, 7, 7, -1, -1]
    assert id_of({"image_id": "x", "id": "0042"}, "image_id", "id") == 42
