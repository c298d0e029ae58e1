"""What may be deleted of studies and what keeps them, what was deleted, and how full the disk is."""
