"""Programs and libraries of other makes that say whether an object is valid."""
