"""The commands, one module per subject. Each loads what it needs when it runs, so that --help answers at once."""
