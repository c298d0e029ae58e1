"""What the API and the page read of the index: lists, one study, counts. Nothing here writes."""
