"""A result becomes DICOM objects; no sockets, no files written. Import as `dicom_node.sr_writer`."""

from dicom_node.sr_writer.write import write_objects, write_result
from dicom_node.sr_writer.writing import to_part10

__all__ = ["to_part10", "write_objects", "write_result"]
