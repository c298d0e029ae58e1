"""Who may use the node, and what they did: accounts, programs' keys, open sessions, the audit trail."""
