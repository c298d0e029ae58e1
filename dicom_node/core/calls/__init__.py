"""Calls of the node and of others: what a caller may ask, how long a server may take, for which request, and outages."""
