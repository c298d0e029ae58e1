"""A copy of everything that a node knows, taken while it runs, and put back elsewhere."""
