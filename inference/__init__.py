"""Pixels in, findings out: gates, volumes, models, heatmaps. Import as `dicom_node.inference`."""
