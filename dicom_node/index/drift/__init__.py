"""What is kept of analyses to see drift, how it compares, and which routes are in the shadow for it."""
