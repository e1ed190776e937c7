"""The coordinator machine: lifecycle of a request, the fold over progress, the conservation law.

Pure: `machine.step` is the whole of it, driven by `coordinator.runtime.requests`.
May be imported by the runtime and the shells; imports `coordinator.model` only.
"""
