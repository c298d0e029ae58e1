"""What people are told of without asking: the table of rules, when one is raised and cleared, and what is said."""
