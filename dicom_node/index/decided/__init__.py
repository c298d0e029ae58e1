"""What people decide: on studies and deliveries, results, models and routes, and whether it still is as they saw it."""
