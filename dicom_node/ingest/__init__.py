"""Objects that come as files: by STOW-RS, by upload, from a watched folder.

The way of one file: `incoming` (piece by piece into a part of the spool, behind a head of our own) →
`headers.scan` (whole? whose?) → `headers.reader` (parsed in a process with limits) → `Intake.store_file` (durable,
indexed) → the answer. A `session` is one request or one pass over a folder: an association of its own in the index.
"""
