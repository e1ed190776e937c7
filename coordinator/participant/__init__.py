"""The library for processes that run handlers: declare services, and `serve` them.

May import `coordinator.model` and nothing else of the project.
"""
