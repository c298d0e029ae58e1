"""The roles of a node; each can run by itself on a machine of its own. The table of them is `app.ROLES`."""
