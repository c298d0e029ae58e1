"""Files for people: studies, archives, lists and cases, as they are kept or without their patient."""
