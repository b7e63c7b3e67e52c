"""One dataset per file; the file's name is the dataset's name.

A dataset file holds a docstring (first line: what it is; then the source), the literals `EPOCHS` and `AUGMENT`, and
`load(data_dir, argument="") -> Dataset`. Modules that start with an underscore are shared by several files.
"""
