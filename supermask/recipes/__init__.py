"""Published configurations, one a file: literal constants that are read without importing them."""
