"""What is measured of a trained network, and how it is written down."""
