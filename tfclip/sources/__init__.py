"""Raw data in: one file per data set, each yields samples."""
