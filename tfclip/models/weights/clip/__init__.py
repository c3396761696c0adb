"""Whole pretrained CLIP and SigLIP models: their sources, settings and conversion."""
