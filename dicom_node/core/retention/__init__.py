"""What may be deleted and what stays, and the day on which the disk is full."""
