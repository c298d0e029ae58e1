"""DICOM messages on an association that the node opens: one requestor for sending, fetching and asking."""
