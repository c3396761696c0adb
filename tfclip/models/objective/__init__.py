"""The contrastive objective: losses, the global batch, gradient caching."""
