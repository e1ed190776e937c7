"""The HTTP surface: routes over the gateway, their contract (OpenAPI), their errors (problem+json), metrics.

Decides nothing; may import `runtime` and the views of the machines. Imported by `cli` only.
"""
