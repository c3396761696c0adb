"""Measurements as text tables, JSON files, charts and one HTML page."""
