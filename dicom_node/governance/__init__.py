"""Which models may run here: what an operator accepted, what golden studies confirmed, what only runs in the shadow.

`verify` looks at a folder without trusting it, `store` brings it in, `admission` says yes or no for every job,
`golden` asks a model the questions whose answers are known, with masks by `known_masks`, `first_run` whether it runs at
all, `standing` shows people the outcome.
Nothing here imports torch; what must, runs in the worker process.
"""
