"""Why a model said so: maps on the pixels of the source, however the network sees them."""
