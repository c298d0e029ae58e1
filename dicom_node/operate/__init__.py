"""What keeps a node well while it runs: the slow search for objects that the disk has changed."""
