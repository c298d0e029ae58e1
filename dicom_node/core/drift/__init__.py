"""When a change of inputs or outputs counts as drift, what calibrated scores tell without labels, how reviews agree."""
