"""One module per kind of model file: each loads it and runs it, and knows nothing of DICOM."""
