"""One suite for each port, which every adapter passes. A suite knows an adapter only by its port."""
