"""A result becomes DICOM objects; no sockets, no files. Import as `dicom_node.sr_writer`."""
