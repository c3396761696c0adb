"""Pretrained towers by name: where they come from, and the cache on this machine."""
