"""One task per file: what a network's outputs mean. The file's name is the task's name; a dataset names its task."""
