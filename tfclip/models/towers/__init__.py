"""Image and text towers: one builder function for each architecture."""
