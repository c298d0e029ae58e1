"""Models that lack nothing but their weights: cards that come with the node, and what makes weights fit them."""
