"""The training loop, its checkpoints and what it needs on every device."""
