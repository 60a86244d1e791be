"""Healthy trainers, each odd in one way. All read the zoo's recordings, train a small net, and are correct."""
