"""What the node can give: kinds of objects, what a destination takes of them, and events."""
