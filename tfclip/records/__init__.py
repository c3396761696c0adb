"""Packed data: the record schema, the shards, the manifest, the reader."""
