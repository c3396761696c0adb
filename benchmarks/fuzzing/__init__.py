"""Damaged and hostile inputs: how they are made, and what must come of them."""
