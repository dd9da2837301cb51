"""Tracking: MLflow's runs and registry, the only place that imports it. What is measured comes from elsewhere."""
