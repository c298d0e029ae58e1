"""People: who may act here, and what they did."""
