"""The node as it is installed for a service: its unit, its tree, what containers start."""
