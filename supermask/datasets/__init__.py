"""One dataset per file; the file's name, with dashes, is the dataset's name.

A dataset file holds a docstring (the first line is what `supermask list` prints; then the source), the literals
`EPOCHS` and `AUGMENT`, and `load`: a function, or the declaration of a source in a known format (`IdxSource`,
`CifarSource`, `MatSource`), called as `load(data_dir, argument="") -> Dataset`. With the literal `RESIZES = True` it
also takes `image_size`; `INPUTS = "tokens"` says that it holds sequences of tokens. `ARGUMENT` says what follows a
colon: "path" for a path of the user's own, another word for another thing, in brackets if it may be left out. For
`supermask data`, a function has `where(data_dir, argument="")` beside it, the files that it would read, and the
literals `TRAIN`, `TEST` (official shapes) and `NUM_CLASSES`; a source has them as its own. Modules that start with an
underscore are shared.
"""
