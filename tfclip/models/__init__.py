"""Encoders: towers, heads, losses and the dual encoder."""
