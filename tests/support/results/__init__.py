"""Answers, the objects and rows that follow from them, and what is stored of a study."""
