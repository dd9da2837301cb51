"""Tracking: MLflow's runs and registry. Nothing else imports MLflow, and nothing here measures."""
