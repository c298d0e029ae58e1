"""What delivers: one module for each protocol. Loaded by the kinds of destination when they first send."""
