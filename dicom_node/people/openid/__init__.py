"""Sign-in at an OpenID provider, and what it vouches for."""
