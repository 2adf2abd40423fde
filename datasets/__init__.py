"""Sources become immutable data sets. ``datasets.registry`` lists them."""
