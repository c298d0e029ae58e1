"""Reports of radiologists: read, brought together with their studies, and looked for where nobody sends them."""
