"""What is made of words: what a radiologist's report says of the findings that models look for."""
