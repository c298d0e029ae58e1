"""Metrics as Prometheus asks for them: what is looked at for each scrape, its text, and a port of their own."""
