"""The outbox: what is owed leaves the node, destination by destination, until it has arrived."""
