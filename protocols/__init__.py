"""Splits, candidates, metrics and statistics. ``protocols.registry`` lists the protocols."""
