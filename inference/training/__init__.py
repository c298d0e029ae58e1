"""How the shipped models were trained: needs the training images, which are never part of the project."""
