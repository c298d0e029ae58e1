"""What the node measures of itself: the table of all metrics, and the counts of one process."""
