"""The nouns of the node and its pure decisions: standard library only, no input or output, no clock."""
