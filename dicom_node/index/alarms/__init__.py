"""Alarms as rows: what stands, what is owed to receivers, what was seen, and what is looked at to judge."""
