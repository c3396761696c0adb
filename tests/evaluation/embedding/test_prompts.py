"""Prompts say exactly what their template says, for every class."""

import pytest

from tfclip.evaluation.embedding import prompts
from tfclip.sources.voc import CLASS_NAMES


def test_every_template_takes_a_class_name():
    for name in prompts.TEMPLATES:
        texts = prompts.prompts("dog", prompts.templates_by_name(name))
        assert texts and all(text.count("dog") == 1 and "{" not in text for text in texts)


def test_the_default_is_the_published_prompt_to_the_letter():
    single = prompts.templates_by_name("single")
    assert prompts.prompts("airplane", single) == ["a photo of a airplane."]


def test_templates_keep_their_order_and_names_are_taken_as_they_are():
    found = prompts.prompts("{0} %s", ("the {}", "{}, {x}"))
    assert found == ["the {0} %s", "{0} %s, {x}"]


def test_a_template_without_a_place_for_the_class_is_refused():
    with pytest.raises(ValueError, match="template 'a photo' has no {} for the class name"):
        prompts.prompts("dog", ("{}", "a photo"))


def test_unknown_templates_are_refused():
    with pytest.raises(ValueError, match="unknown templates 'singel'; known, nearest first: sin"):
        prompts.templates_by_name("singel")


def test_readable_names_are_of_voc_and_stay_apart():
    assert set(prompts.READABLE) <= set(CLASS_NAMES)
    found = prompts.readable_names(CLASS_NAMES)
    assert len(set(found)) == len(CLASS_NAMES)
    assert found[0] == "airplane" and found[10] == "dining table"
    assert prompts.readable_names(["red circle", "aeroplane"]) == ["red circle", "airplane"]


def test_openais_templates_are_eighty_and_each_once():
    templates = prompts.templates_by_name("openai")
    assert len(templates) == len(set(templates)) == 80
    assert templates[0] == "a bad photo of a {}." and templates[-1] == "a tattoo of the {}."


def test_clip_benchmarks_prompts_hold_the_official_names():
    names = ["aeroplane", "dog"]
    found = prompts.class_prompts(names, "voc", {})
    assert found == [("a photo of a aeroplane.",), ("a photo of a dog.",)]
    assert prompts.class_prompts(names, "single", {})[0] == ("a photo of a airplane.",)
    found = prompts.class_prompts(names, "region", {"dog": ("dog", "puppy")})
    assert found == [("the airplane",), ("the dog", "the puppy")]
