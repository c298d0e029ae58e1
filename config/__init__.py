"""Settings, typed and validated once at start, and the terminology tables. Import as `dicom_node.config`."""
