"""The commands about people: who may use the node, and who did what."""
