"""What is pulled: a study is found in a configured PACS and fetched, by DIMSE, DICOMweb or Orthanc's interface."""
