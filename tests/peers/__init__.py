"""Real programs the node is tested against; each starts on free ports, in a temporary folder, and ends by itself."""
