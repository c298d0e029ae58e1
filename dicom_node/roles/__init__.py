"""The roles of a node; each can run by itself on a machine of its own."""
