"""Stored objects as viewers ask for them: their headers as JSON, their frames, and pictures of them."""
