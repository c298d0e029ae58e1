"""The trail of who did what: sealed, kept, verified, and told to repositories."""
