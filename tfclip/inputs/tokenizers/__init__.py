"""Tokenizers: byte pairs, and learning a WordPiece vocabulary."""
