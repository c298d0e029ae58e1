"""Processes with limits: what breaks in one, a codec, a parser or a model, costs one answer and nothing else."""
