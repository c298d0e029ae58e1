"""Pixels drawn for people: heat maps, key slices, panels and the summary page."""
