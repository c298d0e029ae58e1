"""HL7 v2.5.1 messages: a result as ORU^R01, what takes one back, and what a receiver wants otherwise. No sockets."""
