"""How results are judged: by a named person, by another answer about the same study, and how often they agree."""
