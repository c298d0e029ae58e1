"""What a kept data folder is made of: images, a node and its peers, the site's own model; and its facts."""
