"""What the documentation shows, made runnable."""
