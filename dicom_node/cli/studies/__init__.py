"""The commands about studies: sent and fetched, told and repeated, taken back, looked into and exported."""
