"""Exports in formats of other programs."""
