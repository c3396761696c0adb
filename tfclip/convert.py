"""python -m tfclip.convert SOURCE --run RUN: convert a pretrained CLIP or SigLIP to a run."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from tfclip import files
from tfclip.console import Command, run, say


@dataclass(frozen=True)
class ConvertFlags:
    """Convert a whole pretrained model to RUN: towers, projections, temperature and tokenizer.

    evaluate, predict, search and export use the run like one that was trained here.
    """

    source: Positional[str]
    """A Hugging Face or open_clip folder, a keras_hub preset folder, an open_clip file
    (.safetensors, .pt, .bin), or hf://OWNER/NAME."""
    run: Path
    """The run directory to write; it must not exist."""
    vocabulary: Path | None = None
    """CLIP's byte pairs (bpe_simple_vocab_16e6.txt.gz) or SigLIP's spiece.model, if SOURCE does
    not contain them."""
    text_source: str | None = None
    """The folder (or hf://OWNER/NAME) of CLIP's text tower with its projection, if SOURCE is the
    image tower with its projection (CLIPVisionModelWithProjection)."""
    activation: str | None = None
    """gelu or quick_gelu, for a file of weights that does not state it."""

    def __post_init__(self):
        """Check the flags.

        Raises:
            ValueError: for another activation.
            FileExistsError: the run exists.
        """
        if self.activation not in (None, "gelu", "quick_gelu"):
            raise ValueError(f"--activation must be gelu or quick_gelu; received {self.activation}")
        if self.run.exists() and (not self.run.is_dir() or any(self.run.iterdir())):
            raise FileExistsError(f"{self.run} exists already; choose another --run")


def convert(flags: ConvertFlags) -> dict:
    """Convert the model, write the run, and print a summary."""
    from tfclip.models.weights.clip.convert import open_clip
    from tfclip.models.weights.fetch import local_source

    started = time.monotonic()
    path = local_source(flags.source)
    text_path = None if flags.text_source is None else local_source(flags.text_source)
    opened = open_clip(path, flags.vocabulary, flags.activation, text_path)
    model, source = opened.model, opened.source
    for note in source.notes:
        say(f"note: {note}")
    if "text_repair" in model.trained_on:
        say(
            "note: CLIP's texts were repaired before its training (ftfy, HTML entities); for texts "
            "that may need it, pass --fix-text to make_records, search and predict"
        )
    files.remove_unfinished(flags.run.parent, flags.run.name)
    with files.new_folder(flags.run) as temporary:
        opened.save(temporary / "best")
    config, encoder = model.config, model.dual_encoder
    parameters = encoder.count_params()
    scale = float(encoder.temperature())
    say(
        f"{flags.run}: {config.image_tower} of {config.image_size} px and {config.text_tower}, "
        f"{parameters:,} parameters, embeddings of {config.embed_dim} numbers, "
        f"logit scale {scale:.1f}"
    )
    if scale > 100.01:  # OpenAI stores ln 100 in float32, which is a little more
        say(f"note: the logit scale {scale:.1f} is kept; training would clamp it to 100")
    evaluate = f"python -m tfclip.evaluate {flags.run} multilabel"
    say(f"evaluate it with: {evaluate} --data VOCdevkit/VOC2007")
    return {
        "run": str(flags.run),
        "source": str(path),
        "kind": source.kind,
        "parameters": parameters,
        "image_size": config.image_size,
        "resize": config.resize,
        "interpolation": config.interpolation,
        "logit_scale": scale,
        "notes": list(source.notes),
        "seconds": round(time.monotonic() - started, 1),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("tfclip.convert", Command(ConvertFlags, convert), argv)


if __name__ == "__main__":
    sys.exit(main())
