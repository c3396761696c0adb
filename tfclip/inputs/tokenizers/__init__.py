"""Tokenizers: learnt pieces, byte pairs, SigLIP's pieces, and vocabularies for them."""
