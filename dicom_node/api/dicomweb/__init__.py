"""What the DICOMweb services share: what a client asks and accepts, and how long answers are made (PS3.18)."""
