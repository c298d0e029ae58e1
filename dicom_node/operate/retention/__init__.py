"""Deletes what the settings say may go, tells why the rest stays, and looks after what no row knows."""
