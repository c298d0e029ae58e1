"""The pull door: find a study in a configured PACS and fetch it, by DIMSE, DICOMweb or Orthanc's own interface."""
