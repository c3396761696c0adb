"""The training loop, its checkpoints, and distribution over replicas."""
