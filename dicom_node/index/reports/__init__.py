"""Rows of radiologists' reports: what came and what was read of it, and how models compare with them."""
