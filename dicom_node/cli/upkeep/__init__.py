"""The commands that keep a node going for years: what is deleted and held, backups and their way back."""
