"""The structured report, TID 1500: the root result that refers to everything else."""
