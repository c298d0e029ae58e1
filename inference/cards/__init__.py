"""The model card: what the node must know of a model before it loads one, read, checked and digested."""
