"""One search method per file; the file's name is the method's name."""
