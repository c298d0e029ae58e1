"""Our objects in a viewer of another make: OHIF in a headless Chromium, before Orthanc."""
