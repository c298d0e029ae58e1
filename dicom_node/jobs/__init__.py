"""From a complete study to its results: what is due (`sweeps`), made ready (`planning`), run in worker processes."""
