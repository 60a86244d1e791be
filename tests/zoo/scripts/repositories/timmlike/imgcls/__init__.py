"""Image classification kit."""
