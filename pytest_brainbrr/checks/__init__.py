"""Checks: pure functions of recorded traces. They import neither torch nor pytest nor brainbrr."""
