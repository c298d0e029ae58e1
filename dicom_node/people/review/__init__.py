"""A named person decides on a result: accepts it, modifies it, or rejects it."""
