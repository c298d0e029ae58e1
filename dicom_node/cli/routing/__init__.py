"""The commands about routes and destinations: which there are, why a study goes where, and what is stopped."""
