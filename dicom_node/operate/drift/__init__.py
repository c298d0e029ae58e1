"""Whether inputs or outputs of a model have changed since it was taken into use, scanner by scanner."""
