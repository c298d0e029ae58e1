"""Radiographs and mammograms: which pictures a model may see, and how they are turned upright for it."""
