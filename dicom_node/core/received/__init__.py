"""What has come: instances put together to studies, whether one is complete, and which images are not to be used."""
