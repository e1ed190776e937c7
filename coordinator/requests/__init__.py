"""The coordinator machine: lifecycle of a request, the fold over progress, the conservation law.

Pure: `machine.step` is the whole of it, driven by `coordinator.runtime.requests`. Beside it stands what is the same
wherever somebody asks: what a body means (`body`), what may be asked (`preconditions`), what is shown (`view`).
May be imported by the runtime, the shells and the Python client; imports `coordinator.model` only.
"""
