"""Finds, reads and converts pretrained weights for the towers."""
