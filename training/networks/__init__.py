"""Networks: what models are made of and loaded from. No model is here; those are in `models/`."""
