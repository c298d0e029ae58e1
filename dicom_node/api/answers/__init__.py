"""How the API answers: problems and what to do about them, pages of lists, versions, streams, its own description."""
