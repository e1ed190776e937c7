"""Handlers that really run, on partitions that are simulated: call trees, under everything that can happen to them."""
