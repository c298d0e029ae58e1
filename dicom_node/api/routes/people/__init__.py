"""People and what they did: sign-in, sessions, accounts and keys, the audit trail."""
