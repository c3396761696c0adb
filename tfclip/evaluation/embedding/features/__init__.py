"""Stored outputs of frozen towers."""
