"""The acceptor process: the DICOM ports, from the bytes of a peer to a durable slot and the answer."""
