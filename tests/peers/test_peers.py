"""Parity with PyTorch's libraries at full size, and fresh references: make test-peers PEERS=PYTHON.

PYTHON is an interpreter of its own venv with the extra [peers]. It writes random checkpoints with
what its libraries answer; tfclip converts them here and must answer the same.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
WEIGHTS = HERE.parent / "models" / "weights"
PEERS = os.environ.get("TFCLIP_PEERS")
pytestmark = pytest.mark.skipif(not PEERS, reason="make test-peers PEERS=PYTHON, with [peers]")
# The largest multiple of the checkpoint's size in memory, and the seconds of convert.
LIMITS = {"clip-vit-b32": (2.2, 60), "clip-vit-l14": (1.0, 240), "siglip-base": (2.0, 90)}
# The other kinds of sources, each a ViT-B/32: what convert takes, below the folder.
KINDS: dict[str, tuple[str, ...]] = {
    "hf-sharded": ("source",),
    "hf-pytorch-bin": ("source",),
    "hf-projections": ("source", "--text-source", "text"),
    "open-clip-folder": ("source",),
    "open-clip-safetensors": ("source/weights.safetensors", "--activation", "gelu"),
    "open-clip-bin": ("source/open_clip_pytorch_model.bin", "--activation", "gelu"),
    "open-clip-pt": ("source/epoch_32.pt", "--activation", "gelu"),
    "keras-hub": ("source",),
}
COMPARE = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf
from tfclip.models.saving import load_model

folder, run = map(Path, sys.argv[1:])
expected = np.load(folder / "expected.npz")
encoder = load_model(run).dual_encoder
ids = expected["ids"].astype("int32")
end = 1 if "siglip" in encoder.config.text_tower else ids.max()
mask = np.cumsum(ids == end, axis=1) - (ids == end) == 0
image = encoder.encode_image(tf.constant(expected["pictures"])).numpy()
text = encoder.encode_text(tf.constant(ids), tf.constant(mask)).numpy()
logits = float(encoder.temperature()) * image @ text.T
if encoder.logit_bias is not None:
    logits += np.asarray(encoder.logit_bias.bias)
found = {"image": image, "text": text, "logits": logits}
print(json.dumps({k: float(np.abs(v - expected[k]).max()) for k, v in found.items()}))
"""
MEASURED = """
import resource, sys
from tfclip.convert import main
code = main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def run(*words, python: str = sys.executable) -> str:
    done = subprocess.run(
        [python, *map(str, words)], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory) -> dict[str, Path]:
    """A file of byte pairs of CLIP's size and a SentencePiece model of SigLIP's, of random text."""
    folder = tmp_path_factory.mktemp("vocabulary")
    script = (
        "import open_clip, shutil, sys; from pathlib import Path; "
        "shutil.copy(Path(open_clip.__file__).parent / 'bpe_simple_vocab_16e6.txt.gz', sys.argv[1])"
    )
    run("-c", script, folder / "merges.txt.gz", python=str(PEERS))
    import sentencepiece

    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    lines = folder / "lines.txt"
    words = ["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(120_000)]
    lines.write_text("\n".join(" ".join(words[n : n + 6]) for n in range(0, len(words), 6)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines),
        model_prefix=str(folder / "spiece"),
        vocab_size=32_000,
        model_type="bpe",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return {"clip": folder / "merges.txt.gz", "siglip": folder / "spiece.model"}


def check_conversion(folder: Path, words, vocabulary: Path, limits, capsys) -> None:
    """Convert FOLDER/source; hold time, memory and answers against limits and expected.npz."""
    command = [*words, "--run", folder / "run", "--vocabulary", vocabulary, "--json"]
    report, peak = run("-c", MEASURED, *command).strip().splitlines()[-2:]
    told = json.loads(report)
    weights = [path for path in folder.glob("[st]*/*") if path.stat().st_size > 1e7]
    size = sum(path.stat().st_size for path in weights)
    memory = int(peak.split()[1]) * 1024 / size
    different = json.loads(run("-c", COMPARE, folder, folder / "run"))
    listed = ", ".join(f"{key} {value:.1e}" for key, value in different.items())
    with capsys.disabled():
        print(
            f"\n{folder.name}: {size / 1e6:.0f} MB, converted in {told['seconds']} s with a peak "
            f"of {memory:.2f} x the checkpoint; largest differences: {listed}"
        )
    assert different["image"] < 1e-5 and different["text"] < 1e-5 and different["logits"] < 1e-3
    assert memory < limits[0] and told["seconds"] < limits[1]


@pytest.mark.parametrize("name", LIMITS)
def test_a_full_size_model_answers_as_in_transformers(name, vocabulary, tmp_path, capsys):
    folder = tmp_path / name
    run(HERE / "full_size.py", name, folder, python=str(PEERS))
    merges = vocabulary[name.split("-")[0]]
    check_conversion(folder, [folder / "source"], merges, LIMITS[name], capsys)
    if name == "clip-vit-b32":
        folders = [tmp_path / "hf", tmp_path / "open_clip"]
        words = [folder / "run", "--hf", folders[0], "--open-clip", folders[1]]
        run("-m", "tfclip.export", *words)
        for exported in folders:  # exits with 1 if a difference is above 1e-4
            words = [HERE / "read_clip_folders.py", exported, folder / "expected.npz"]
            gaps = run(*words, python=str(PEERS))
            with capsys.disabled():
                print(f"exported and loaded back: {gaps.strip().splitlines()[-1]}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_answers_as_in_its_own_library(kind, vocabulary, tmp_path, capsys):
    folder = tmp_path / kind
    if kind == "keras-hub":
        run(HERE / "full_size_keras_hub.py", folder)
    else:
        run(HERE / "full_size_kinds.py", kind, folder, python=str(PEERS))
    words = [folder / KINDS[kind][0], *KINDS[kind][1:]]
    if "--text-source" in words:
        words[-1] = folder / words[-1]
    memory, seconds = LIMITS["clip-vit-b32"]
    if kind == "keras-hub":  # keras_hub builds its whole backbone before it reads a weight
        memory = 3.5
    check_conversion(folder, words, vocabulary["clip"], (memory, seconds), capsys)


def test_image_towers_give_the_features_of_timm_and_transformers(tmp_path, capsys):
    from tfclip.models import registry
    from tfclip.models.weights.image_weights import load_image_weights

    run(HERE / "image_towers.py", tmp_path, python=str(PEERS))
    different = {}
    for folder in sorted(tmp_path.iterdir()):
        described = json.loads((folder / "tower.json").read_text())
        tower = registry.image_tower(described["name"]).build(image_size=64, **described["options"])
        load_image_weights(tower, described["name"], str(folder))
        expected = np.load(folder / "expected.npz")
        found = tower(expected["pictures"].astype("float32")).numpy()
        gap = np.abs(found - expected["features"]).max()
        different[folder.name] = gap / np.abs(expected["features"]).max()
    with capsys.disabled():
        print("\n" + ", ".join(f"{name} {gap:.1e}" for name, gap in different.items()))
    assert len(different) == 12 and max(different.values()) < 1e-3


@pytest.mark.parametrize("script", ["make_clips", "make_sentence_encoders"])
def test_the_committed_references_are_what_the_peers_write_today(script, tmp_path):
    run(HERE / f"{script}.py", tmp_path / "new", python=str(PEERS))
    names = sorted(path.parent.name for path in (tmp_path / "new").glob("*/expected.npz"))
    assert names
    folder = WEIGHTS / {"make_clips": "clips"}.get(script, "sentence_encoders")
    for name in names:
        new, old = (np.load(place / name / "expected.npz") for place in (tmp_path / "new", folder))
        assert sorted(new) == sorted(old)
        for key in new:
            np.testing.assert_allclose(new[key], old[key], atol=1e-3, err_msg=f"{name} {key}")
