"""python -m tfclip.convert SOURCE --run RUN: make a run of a pretrained CLIP or SigLIP."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from tfclip import files
from tfclip.console import Command, run, say


@dataclass(frozen=True)
class ConvertFlags:
    """Write RUN/best: a whole pretrained model, with its projections, temperature and tokenizer.

    evaluate, predict, search and export take the run like one that was trained here.
    """

    source: Positional[str]
    """A Hugging Face or open_clip folder, an open_clip file (.safetensors, .pt, .bin), or
    hf://OWNER/NAME."""
    run: Path
    """The run to write; it must not be there."""
    vocabulary: Path | None = None
    """CLIP's byte pairs (bpe_simple_vocab_16e6.txt.gz) or SigLIP's spiece.model, where SOURCE
    brings none."""
    activation: str | None = None
    """gelu or quick_gelu, for a file that does not say."""

    def __post_init__(self):
        """Refuse what cannot be written.

        Raises:
            ValueError: for another activation.
            FileExistsError: when the run is there.
        """
        if self.activation not in (None, "gelu", "quick_gelu"):
            raise ValueError(f"--activation must be gelu or quick_gelu; received {self.activation}")
        if self.run.exists() and (not self.run.is_dir() or any(self.run.iterdir())):
            raise FileExistsError(f"{self.run} is there already; choose another --run")


def convert(flags: ConvertFlags) -> dict:
    """Convert, write the run, and say what it is."""
    from tfclip.models.saving import save_model
    from tfclip.models.weights.clip.convert import convert_clip
    from tfclip.models.weights.fetch import local_source

    begun = time.monotonic()
    path = local_source(flags.source)
    model, source = convert_clip(path, flags.vocabulary, flags.activation)
    for note in source.notes:
        say(f"note: {note}")
    files.remove_unfinished(flags.run.parent, flags.run.name)
    with files.new_folder(flags.run) as beside:
        save_model(beside / "best", model)
    config, encoder = model.config, model.dual_encoder
    parameters = encoder.count_params()
    scale = float(encoder.temperature())
    say(
        f"{flags.run}: {config.image_tower} of {config.image_size} px and {config.text_tower}, "
        f"{parameters:,} parameters, {config.embed_dim} numbers to an embedding, scale {scale:.1f}"
    )
    if scale > 100.01:  # OpenAI stores ln 100 in float32, a little more
        say(f"the scale {scale:.1f} is kept as it is; training would clamp it to 100")
    say(f"measure it with: python -m tfclip.evaluate {flags.run} voc --data VOCdevkit/VOC2007")
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
        "seconds": round(time.monotonic() - begun, 1),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("tfclip.convert", Command(ConvertFlags, convert), argv)


if __name__ == "__main__":
    sys.exit(main())
