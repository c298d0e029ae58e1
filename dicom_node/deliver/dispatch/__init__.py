"""From what is owed to what is proved to have arrived: threads, batches, pauses and questions."""
