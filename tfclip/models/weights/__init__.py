"""Where pretrained weights come from, and how they are converted for our towers."""
