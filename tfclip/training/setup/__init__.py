"""What is built before the first step: model, optimizer, adapted heads."""
