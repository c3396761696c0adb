"""One way in: pictures and texts become tensors here, in training and in serving."""
