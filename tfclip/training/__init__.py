"""Learning: recipes, the training loop, checkpoints, callbacks."""
