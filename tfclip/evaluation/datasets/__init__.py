"""The labelled images and sentence pairs that a model is measured on."""
