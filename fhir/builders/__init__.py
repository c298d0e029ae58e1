"""A result becomes FHIR R4 resources, and these one transaction Bundle."""
