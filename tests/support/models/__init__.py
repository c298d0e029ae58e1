"""Models to run: zoo bundles, tiny networks, folders with cards, and a server of the Open Inference Protocol."""
