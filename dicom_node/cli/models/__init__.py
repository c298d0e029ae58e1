"""The commands about models: found, tried, accepted, activated, measured, and run on files without a node."""
