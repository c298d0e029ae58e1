"""Alarms at work: what is looked at for each rule, and the round in which all are judged."""
