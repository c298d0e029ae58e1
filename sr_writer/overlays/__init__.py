"""Marks in the geometry of the source: masks (SEG), switchable graphics (GSPS), values (parametric map)."""
