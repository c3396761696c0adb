"""The flags of `fit` and the recipes that give their defaults."""
