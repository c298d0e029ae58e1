"""Studies that people bring: uploaded, or fetched from a PACS."""
