"""One search method per file. The file's name is the method's name."""
