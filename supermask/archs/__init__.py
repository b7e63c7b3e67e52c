"""One network family per file; the file's name, with a depth where it has several, is the arch's name."""
