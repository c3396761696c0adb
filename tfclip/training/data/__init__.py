"""Training sets, stored features and the batches made from them."""
