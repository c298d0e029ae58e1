"""What came in, as objects, by retrieval or as messages of HL7, and what it changes in what is known."""
