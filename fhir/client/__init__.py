"""Speaking to an EHR: what it can do, whom it knows, what it holds already, and what its answers mean."""
