"""The DICOM ports: `acceptor` is the process that serves them, `process` and `start` its parent's side.

The way of one object: `transport` (bytes in time, PDUs) → `association` (let in by `admission`, agreed by
`negotiation`) → `messages` (DIMSE) → `incoming` (one reused buffer) → `storing` (scanned, into the journal) → `channel`
→ `events` → `journal_consumer` (headers parsed, file, row).
"""
