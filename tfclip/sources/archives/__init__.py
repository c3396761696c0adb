"""Archives that are read without unpacking them."""
