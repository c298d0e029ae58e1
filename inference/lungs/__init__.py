"""`ct-lung-density`: lungs found by threshold and morphology, and what is measured of them."""
