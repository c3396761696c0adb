"""What the page at / asks of the server beside TensorFlow Serving's REST paths."""
