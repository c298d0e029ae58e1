"""Where models run: processes with limits, the processor they compute on, and the models they keep warm."""
