"""Durable bytes: pre-written slots for what just came (`journal`), a file for each object (`spool`)."""
