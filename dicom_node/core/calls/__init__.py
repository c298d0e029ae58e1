"""Calls between the node and others: what a caller is conceded, how long a server may take, for whom, and outages."""
