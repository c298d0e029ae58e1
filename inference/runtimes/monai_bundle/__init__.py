"""MONAI Bundles as they were published: their configuration, what goes in, what comes out, their code as it runs."""
