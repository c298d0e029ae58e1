"""Programs for those who develop the node; nothing of it imports them."""
