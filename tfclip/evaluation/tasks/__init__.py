"""One module for each benchmark: multi-label, retrieval, classification, STS."""
