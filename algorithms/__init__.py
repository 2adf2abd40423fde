"""Thin adapters on the libraries that users know. ``algorithms.registry`` lists them."""
