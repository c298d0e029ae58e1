"""How peers that are no DICOM applications are reached: over HTTP with its logins and certificates, and by MLLP."""
