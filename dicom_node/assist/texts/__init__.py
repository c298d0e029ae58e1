"""Reading presence and absence out of reports, by rules and word lists that are the project's own."""
