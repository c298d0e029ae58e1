"""What is owed to others, and what is known of them: deliveries, withdrawals, destinations, storage commitments."""
