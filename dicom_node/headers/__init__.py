"""Everything that reads the headers of received objects: element headers, file meta information, values."""
