"""A result becomes DICOM objects; no sockets, no files written. Import as `dicom_node.sr_writer`."""

from dicom_node.sr_writer.part10 import to_part10
from dicom_node.sr_writer.write import write_objects, write_result

__all__ = ["to_part10", "write_objects", "write_result"]
