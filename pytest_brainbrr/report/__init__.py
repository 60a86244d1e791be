"""Renderers of one summary: terminal lines and plain data."""
