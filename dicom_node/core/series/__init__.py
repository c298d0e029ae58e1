"""What a series is, by the attributes of its headers, and which route and model want it."""
