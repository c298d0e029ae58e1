"""The worklist: which studies it shows and in which order, what was found in a line, and search by number."""
