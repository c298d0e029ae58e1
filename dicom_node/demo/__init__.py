"""Synthetic studies for the demonstration, the self-test and the tests; never a patient's data."""
