"""One module per task: what a model's predictions mean, as findings, masks and measurements."""
