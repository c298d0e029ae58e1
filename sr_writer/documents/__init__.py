"""Objects that speak about other objects or repeat them on paper: key objects, rejection notes, PDF."""
