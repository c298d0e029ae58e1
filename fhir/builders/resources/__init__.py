"""The resources of a report, one module each; `bundle` puts them together."""
