"""Where the outputs of steps are kept: one file each, on a file system or object store."""
