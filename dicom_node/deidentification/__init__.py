"""Studies without their patients: PS3.15 Annex E, by the table in `core.identifying`."""
