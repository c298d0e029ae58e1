"""Objects that come as files: by STOW-RS, by upload, from a watched folder.

The way of one file: `incoming` (piece by piece into a part of the spool, behind a head of our own) → `receive.look`
(whole? whose?) → `header_file` (parsed in a process with limits) → `Intake.store_file` (durable, indexed) → the answer.
A `visit` is one request or one pass over a folder: an association of its own in the index.
"""
