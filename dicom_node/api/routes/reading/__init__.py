"""What readers work with: worklist, patients, produced objects, reviews, and how far readers and models agree."""
