"""Images and studies, made in code: chests, volumes of known shape, small and malformed objects."""
