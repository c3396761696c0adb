"""Readers of annotation formats: COCO instances, Karpathy's JSON, Open Images, caption JSON."""
