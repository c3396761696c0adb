"""The parts of the clients: calls, and their transport over REST and gRPC. No TensorFlow."""
