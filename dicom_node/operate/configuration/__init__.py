"""The settings that a process runs with, and how it comes to run with others without a restart."""
