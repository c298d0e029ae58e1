"""From received images to what a model may see: the gates, and volumes and radiographs in source geometry."""
