"""The context of a run with a small learnt vocabulary holds the usual prompts."""

import pytest

from tfclip.evaluation.embedding.openai_templates import IMAGENET_TEMPLATES
from tfclip.inputs.text import LearntPieceTokenizer, check_lengths
from tfclip.inputs.tokenizers.learn_pieces import learn_pieces
from tfclip.training.setup.build_model import _prompt_length


@pytest.mark.parametrize("captions", [["a red circle"] * 3, ["หมาสีดำ"] * 3])
def test_prompts_of_unseen_words_fit(captions):
    tokenizer = LearntPieceTokenizer(learn_pieces(captions, 8000), 3)
    length = _prompt_length(tokenizer)
    prompts = [template.format("fire hydrant") for template in IMAGENET_TEMPLATES]
    check_lengths(prompts, tokenizer.with_context_length(length))
    assert length <= 72
