"""The admin API and the status page: what the node does, and the few things an operator may ask of it."""
