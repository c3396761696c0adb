"""Lists of labels, classes and prompts as editors write them."""

import numpy as np
import pytest

from tfclip.config_file import read_config
from tfclip.evaluation.datasets.class_images import LabelledClasses, named_classes
from tfclip.evaluation.embedding.prompts import templates_by_name
from tfclip.evaluation.tasks.multilabel_flags import read_class_names
from tfclip.serving.classifier import read_labels
from tfclip.text_lists import read_lines

NAMES = ("dog", "Königspudel", "a\u2028b")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_from_any_editor(tmp_path, encoding, end):
    path = tmp_path / "names.txt"
    path.write_bytes("".join(f"{name} {end}" for name in NAMES).encode(encoding))
    assert read_lines(path) == [*NAMES, ""]
    assert read_labels(path) == read_class_names(path) == NAMES
    classes = LabelledClasses(("a", "b", "c"), np.zeros(3, int), lambda size: None, "data")
    assert named_classes(classes, path) == NAMES
    path.write_bytes(f"{end}a photo of a {{}}.{end}".encode(encoding))
    assert templates_by_name(str(path)) == ("a photo of a {}.",)


def test_another_encoding_is_named(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("K\xf6nig {}\n".encode("latin-1"))
    for read in (read_lines, read_labels, read_class_names, lambda p: templates_by_name(str(p))):
        with pytest.raises(ValueError, match=r"names\.txt is not UTF-8 text \(byte 1\)"):
            read(path)


def test_flags_with_a_byte_order_mark_and_damaged_ones(tmp_path):
    path = tmp_path / "flags.json"
    path.write_text('{"flags": {"steps": 4}}', encoding="utf-8-sig")
    assert read_config(path) == ({"steps": 4}, None)
    for name, content in (("a.yaml", b"a: b: c"), ("a.json", b"{\xff}"), ("b.json", b"[" * 5000)):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name) as caught:
            read_config(path)
        assert len(str(caught.value).splitlines()) == 1
