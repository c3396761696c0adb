import pytest

from tfclip.naming import nearest, unknown


def test_the_nearest_name_comes_first_and_none_is_lost():
    known = ["voc", "coco", "visual_genome", "flickr8k"]
    assert nearest("flikr8k", known)[0] == "flickr8k"
    assert nearest("Visual-Genome", known)[0] == "visual_genome"
    assert sorted(nearest("x", known)) == sorted(known)


def test_equally_near_names_keep_their_order():
    assert nearest("zzz", ["b", "a", "c"]) == ["b", "a", "c"]


def test_the_error_says_what_was_received_and_what_is_known():
    with pytest.raises(ValueError, match="unknown recipe 'shape'; known, nearest first: shapes, l"):
        raise unknown("recipe", "shape", ["laptop", "shapes"])
    assert str(unknown("tower", "x", [])).endswith("first: none")
