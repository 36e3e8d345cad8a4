"""A site of published bundles: an index, and how figures went from one to the next."""
