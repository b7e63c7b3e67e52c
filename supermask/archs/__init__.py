"""One network family per file. The file's name, plus the depth if there are several, is the arch's name."""
