"""The options of distillation: the teachers, and the weights of the losses against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from tfclip.training.options.checks import not_negative


@dataclass(frozen=True)
class DistillationOptions:
    """Distillation from the stored embeddings of teachers, which do not run in training."""

    teacher: tuple[str, ...] = ()
    """Teachers, by the names that make_records embed has stored beside --records."""
    teacher_affinity: float = 1.0
    """Weight of the affinity loss: the softmax over the similarities of the batch imitates the
    teacher's (TinyCLIP, MobileCLIP). The mean over several teachers."""
    teacher_feature: float = 0.0
    """Weight of the squared distance to the teacher's embeddings (CLIP-KD); they must have the size
    --embed-dim."""
    teacher_interactive: float = 0.0
    """Weight of the contrastive loss against the teacher's embeddings (CLIP-KD); likewise."""
    teacher_words: float = 0.0
    """Weight of the squared distance to the teacher's embeddings of single words, which
    make_records embed --words has stored; of the size --embed-dim."""
    contrastive_weight: float = 1.0
    """Factor of the contrastive loss of the captions, with --teacher."""

    def __post_init__(self):
        weights = "teacher_affinity", "teacher_feature", "teacher_interactive", "teacher_words"
        not_negative(self, *weights, "contrastive_weight")
        if len(set(self.teacher)) < len(self.teacher):
            raise ValueError(f"--teacher names a teacher twice; received {' '.join(self.teacher)}")
        changed = [n for n in (*weights, "contrastive_weight") if getattr(self, n) != DEFAULTS[n]]
        if changed and not self.teacher:
            raise ValueError(
                f"--{changed[0].replace('_', '-')} needs --teacher; store one with python -m "
                "tfclip.make_records embed"
            )
        if self.teacher and not any(getattr(self, name) for name in weights):
            raise ValueError(
                "--teacher needs a weight above 0: --teacher-affinity, --teacher-feature, "
                "--teacher-interactive or --teacher-words; received 0 for all"
            )

    def check_sizes(self, sizes: Sequence[int], embed_dim: int) -> None:
        """Require one teacher with embeddings of the student's size for the losses that need it.

        Raises:
            ValueError: names the flag, the teachers and the sizes.
        """
        for flag, weight in (
            ("--teacher-feature", self.teacher_feature),
            ("--teacher-interactive", self.teacher_interactive),
            ("--teacher-words", self.teacher_words),
        ):
            if weight and len(sizes) > 1:
                raise ValueError(
                    f"{flag} needs a single --teacher; received {' '.join(self.teacher)}. Use "
                    "--teacher-affinity alone with several"
                )
            if weight and sizes[0] != embed_dim:
                raise ValueError(
                    f"{flag} needs a teacher with embeddings of --embed-dim {embed_dim}; received "
                    f"{self.teacher[0]} with {sizes[0]}. Use --embed-dim {sizes[0]}, or "
                    "--teacher-affinity alone"
                )


DEFAULTS = {field.name: field.default for field in fields(DistillationOptions)}
