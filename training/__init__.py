"""How the model learns: knows shards and arrays, not how they came to be."""

import os

# MLflow reads these when it is imported, which only `tracking` does, later.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
