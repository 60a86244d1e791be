"""The base trainers: healthy as they stand, each faulty in many ways when asked to be."""
