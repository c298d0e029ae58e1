"""Unlike the normal ones: an anomaly score learned from normal images alone, and the node's run of it."""
