"""Observers: passive watchers of a running trainer. Each file states its limits at its top."""
