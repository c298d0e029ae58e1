"""Stored pixel values, the same whatever transfer syntax an image came in."""
