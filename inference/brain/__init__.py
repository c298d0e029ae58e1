"""mr-brain-volumes around its network: a head made as the network wants it, and what its outlines are held against."""
