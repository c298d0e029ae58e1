"""One module per kind of model file: each loads it and runs it, and knows nothing of DICOM."""

from dicom_node.inference.runtimes.light_monai import install

# Before any of the modules here imports MONAI.
install()
