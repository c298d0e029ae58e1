"""What the hospital's information systems tell by HL7 v2: orders, and patients who are merged or corrected."""
