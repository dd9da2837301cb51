"""How the model learns: knows shards and arrays, not how they came to be."""

import os

# MLflow reads them when it is imported: by `tracking` and `registry` here, and by nobody before.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
