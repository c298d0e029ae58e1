"""How well a model answers about labelled images, measured through the node's own runner and gates.

`labels` reads what is true of each image, `images` makes it ready, `run` asks the model, `figures` does the
statistics, `plot` draws them. What was not analysed is counted with its reason, by label, never left out in silence.
"""
