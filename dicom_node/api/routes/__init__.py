"""The HTTP resources, one module for each."""
