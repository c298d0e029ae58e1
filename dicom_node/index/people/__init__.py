"""Who may use the node: people's accounts, programs' keys, and the sessions that are open."""
