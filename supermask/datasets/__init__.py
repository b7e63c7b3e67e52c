"""One dataset per file; the file's name, with dashes, is the dataset's name.

A dataset file holds a docstring (the first line is what `supermask list` prints; then the source), the literals
`EPOCHS` and `AUGMENT`, and `load`: a function, or the declaration of a source in a known format (`IdxSource`,
`CifarSource`), called as `load(data_dir, argument="") -> Dataset`. With the literal `RESIZES = True` it also takes
`image_size`; `INPUTS = "tokens"` says that it holds sequences of tokens. Modules that start with an underscore are
shared.
"""
