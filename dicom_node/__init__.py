"""The node between scanners and the hospital's systems: receive, remember, decide, deliver."""

__version__ = "0.2.0"

#: Manufacturer written into every object the node creates, and the mark by which it knows its own results again.
MANUFACTURER = "DICOM AI Node Project"
PRODUCT_NAME = "dicom-ai-node"

#: Manufacturer of the synthetic studies of `dicom-node demo`; other phantoms are not analysed.
DEMONSTRATION_MANUFACTURER = "Phantom Maker"
