"""A real Kafka broker for tests, for a demonstration, and to have for oneself: see `broker`."""
