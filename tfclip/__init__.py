"""tfclip: train, measure and serve your own small CLIP models with TensorFlow and Keras."""
