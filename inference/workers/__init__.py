"""Where models run: the processor they compute on, several studies through one call, and the models kept warm."""
