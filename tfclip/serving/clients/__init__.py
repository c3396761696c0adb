"""The parts of the clients: what is asked, and how it travels over REST and gRPC. No TensorFlow."""
