"""Training sets, stored features, and the batches made of them."""
